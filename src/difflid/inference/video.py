"""Video through a dehazer: frames are dehazed and encoded, sound and subtitles copied as they are.

Reading and writing is PyAV's (FFmpeg). Frames keep their time-stamps, whatever the frame rate does; colours are taken
and given back by the matrix and range that the file states, in 16 bit per channel.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from difflid import image
from difflid.dehazer import Dehazer
from difflid.errors import MissingExtra, VideoError
from difflid.files import whole
from difflid.inference.settings import FileReport, Progress, Settings
from difflid.inference.steady import Steady

try:
    import av
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.sidedata.sidedata import Type as SideData
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
    from av.video.stream import VideoStream
except ImportError:
    raise MissingExtra("video", "video") from None

__all__ = ["dehaze_video"]

_CODECS = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}  # who encodes what
_QUALITY = {  # that can hardly be told from the original
    "libx264": {"crf": "18"},
    "libx265": {"crf": "20", "x265-params": "log-level=error"},
    "libsvtav1": {"crf": "24", "preset": "8"},
    "libvpx-vp9": {"crf": "24", "b": "0", "row-mt": "1", "deadline": "good", "cpu-used": "4"},
}
_KEPT_IN_MP4 = {"movflags": "use_metadata_tags+faststart"}  # all metadata; playable while it is downloaded
_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder"}  # metadata that a writer makes anew
_COLOURS = ("colorspace", "color_range", "color_primaries", "color_trc")
_RGB, _MOST = "rgb48le", np.float32(65535)
_EXACT = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)


def dehaze_video(
    dehazer: Dehazer,
    source: Path,
    target: Path,
    settings: Settings | None = None,
    *,
    progress: Progress | None = None,
) -> FileReport:
    """Dehaze the first video stream of a file; the target appears complete or not at all.

    Args:
        dehazer: the model.
        source: any file that PyAV reads.
        target: a file whose suffix names a container, such as ``.mp4``, ``.mkv`` or ``.webm``.
        settings: None: the defaults.
        progress: called after each frame.

    Raises:
        VideoError: the video cannot be read or written.
    """
    settings, start = settings or Settings(), time.perf_counter()
    if settings.white_balance:
        raise VideoError(f"{source} is a video, and the white balance is of pictures only; dehaze it without")
    with _explained(source, target), _open(source) as reader, whole(target) as path:
        target.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", container_options=_KEPT_IN_MP4) as writer:
            film = _Film(dehazer, settings, writer, _first_frame(source), reader.streams.video[0])
            _convey(reader, writer, film, settings.writing.metadata, progress)
        if not film.count:
            raise VideoError("it has no frame")
        score, seconds = film.veil / film.count, time.perf_counter() - start
    return FileReport(str(source), film.size, score, seconds, film.count, film.damaged)


def _open(source: Path) -> InputContainer:
    reader = av.open(str(source))
    if not reader.streams.video:
        reader.close()
        raise VideoError("it has no video stream")
    reader.streams.video[0].thread_type = "AUTO"
    return reader


def _first_frame(source: Path) -> VideoFrame:
    """Decode one frame: it states colours and rotation, which the header need not."""
    with _open(source) as reader:
        for packet in reader.demux(reader.streams.video[0]):
            for frame in _decode(packet) or ():
                return frame
    raise VideoError("it has no frame")


def _convey(
    reader: InputContainer, writer: OutputContainer, film: _Film, metadata: bool, progress: Progress | None
) -> None:
    video = reader.streams.video[0]
    copies = {stream.index: _add_copy(writer, stream, metadata) for stream in _copied(reader)}
    if metadata:
        writer.metadata.update({key: value for key, value in reader.metadata.items() if key not in _OF_THE_FILE})
    writer.set_chapters(reader.chapters())
    expected = video.frames or _frames_by_duration(reader, video)
    for packet in reader.demux(video, *_copied(reader)):
        if packet.stream.index in copies:
            _copy(packet, copies[packet.stream.index], writer)
            continue
        frames = _decode(packet)
        film.damaged += frames is None
        for frame in frames or ():
            writer.mux(film.encode(frame))
            if progress:
                progress(film.count, expected)
    writer.mux(film.end())


def _decode(packet: Packet[Any]) -> list[VideoFrame] | None:
    """Decode what there is; None where the packet is damaged, which the frames after it may not be."""
    try:
        return packet.decode()
    except av.InvalidDataError:
        return None


def _frames_by_duration(reader: InputContainer, video: VideoStream) -> int | None:
    if reader.duration is None or not video.average_rate:
        return None
    return round(reader.duration / av.time_base * video.average_rate)


def _copied(reader: InputContainer) -> list[Stream]:
    return [*reader.streams.audio, *reader.streams.subtitles]


def _add_copy(writer: OutputContainer, stream: Stream, metadata: bool) -> Stream:
    name = stream.codec_context.name
    if name not in writer.supported_codecs:
        raise VideoError(f"a {writer.format.name} file cannot hold {stream.type} as {name}; write an .mkv file")
    copy = writer.add_stream_from_template(stream)
    copy.metadata.update(_kept(stream.metadata, metadata))
    return copy


def _kept(tags: Mapping[str, str], everything: bool) -> dict[str, str]:
    """Keep the tags of a stream, or only what chooses among streams."""
    return {key: value for key, value in tags.items() if everything or key == "language"}


def _copy(packet: Packet[Any], stream: Stream, writer: OutputContainer) -> None:
    if packet.size:  # else it says that the stream ends
        packet.stream = stream
        writer.mux(packet)


class _Film:
    """The frames of one video on their way: to pixels, through the dehazer, to packets."""

    def __init__(
        self, dehazer: Dehazer, settings: Settings, writer: OutputContainer, first: VideoFrame, video: VideoStream
    ) -> None:
        self._steady, self._settings = Steady(dehazer, smoothing=settings.smoothing), settings
        self._device = next(dehazer.parameters()).device
        self._turns = round(first.rotation / 90)  # quarters counter-clockwise by which a frame is turned to be shown
        self._stream = _add_video(writer, first, video, settings)
        self._time_base = self._stream.codec_context.time_base
        self._to_rgb, self._from_rgb = VideoReformatter(), VideoReformatter()  # they keep what they have prepared
        self._due = 0  # time-stamp of the next frame, if it has none
        self.count, self.damaged, self.veil = 0, 0, 0.0
        self.size = (first.width, first.height)

    def encode(self, frame: VideoFrame) -> list[Packet[Any]]:
        """Dehaze a frame and give what the encoder has ready."""
        full = self._to_rgb.reformat(
            frame,
            *self.size,
            format=_RGB,
            interpolation=_EXACT,
            src_colorspace=frame.colorspace,
            src_color_range=frame.color_range,
            dst_color_range=ColorRange.JPEG,
        )
        pts = self._time_stamp(frame)
        clear = self._dehaze(full.to_ndarray(), float(pts * self._time_base))
        result = self._from_rgb.reformat(
            VideoFrame.from_ndarray(clear, format=_RGB),
            format=self._stream.codec_context.pix_fmt,
            interpolation=_EXACT,
            dst_colorspace=frame.colorspace,
            src_color_range=ColorRange.JPEG,
            dst_color_range=frame.color_range,
        )
        result.pts, result.time_base = pts, self._time_base
        result.duration = frame.duration
        for name in _COLOURS:
            setattr(result, name, getattr(frame, name))
        return self._stream.encode(result)

    def end(self) -> list[Packet[Any]]:
        """Give what the encoder has held back."""
        packets = self._stream.encode(None)
        if self.count <= 2:  # too few for frames out of order, and libx265 leaves their decoding times to chance
            for packet in packets:
                packet.dts = packet.pts
        return packets

    def _time_stamp(self, frame: VideoFrame) -> int:
        """Encoders need time-stamps, and each greater than the last."""
        pts = self._due if frame.pts is None else max(frame.pts, self._due) if self.count else frame.pts
        self._due = pts + 1
        return pts

    def _dehaze(self, pixels: NDArray[Any], time: float) -> NDArray[np.uint16]:
        upright = np.rot90(pixels, self._turns).astype(np.float32) / _MOST
        how = self._settings
        restoration = self._steady.restore(
            image.to_tensor(upright).to(self._device), time, strength=how.strength, tile=how.tile, detail=how.detail
        )
        self.count += 1
        self.veil += float(restoration.haze_score[0])
        clear = np.rint(image.to_pixels(restoration.clear) * _MOST).astype(np.uint16)
        return np.ascontiguousarray(np.rot90(clear, -self._turns))


def _add_video(writer: OutputContainer, first: VideoFrame, video: VideoStream, settings: Settings) -> VideoStream:
    """Add a stream that is like ``video``, for frames like ``first``."""
    deep = max(component.bits for component in first.format.components) > 8
    name = _CODECS.get(settings.codec or "", settings.codec) or _default_codec(writer, deep)
    stream: VideoStream = writer.add_stream(name, rate=video.average_rate or 25, options=_options(name, settings.crf))  # type: ignore[assignment]
    context = stream.codec_context
    context.width, context.height = first.width, first.height
    context.pix_fmt = _pixel_format(first, deep, [format.name for format in context.codec.video_formats or ()])
    context.time_base = video.time_base or Fraction(1, 90_000)
    context.sample_aspect_ratio = video.sample_aspect_ratio or Fraction(0, 1)
    for colour in _COLOURS:
        setattr(context, colour, getattr(first, colour))
    if name == "libx265" and "mp4" in writer.format.name:
        context.codec_tag = "hvc1"  # which players of Apple ask for
    if first.rotation:
        matrix = first.side_data[SideData.DISPLAYMATRIX]  # type: ignore[typeddict-item]
        stream.set_display_matrix(np.frombuffer(bytes(matrix), np.int32).tolist())
    stream.metadata.update(_kept(video.metadata, settings.writing.metadata))
    return stream


def _default_codec(writer: OutputContainer, deep: bool) -> str:
    if "libx264" not in writer.supported_codecs:
        return _CODECS["vp9"]
    return _CODECS["hevc" if deep else "h264"]


def _options(codec: str, crf: int | None) -> dict[str, str]:
    return _QUALITY.get(codec, {}) | ({} if crf is None else {"crf": str(crf)})


def _pixel_format(frame: VideoFrame, deep: bool, known: Sequence[str]) -> str:
    """Keep the format where the encoder knows it; else halve the colours, unless the size is odd."""
    own = frame.format.name.replace("yuvj", "yuv")  # the range is stated apart
    if own in known and not any(component.is_alpha for component in frame.format.components):
        return own
    sampling = "444" if frame.width % 2 or frame.height % 2 else "420"
    usual = f"yuv{sampling}p{'10le' if deep else ''}"
    return usual if usual in known or not known else known[0]


@contextmanager
def _explained(source: Path, target: Path) -> Iterator[None]:
    try:
        yield
    except VideoError as error:
        raise VideoError(f"cannot dehaze {source}: {error}") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"cannot dehaze {source} to {target}: {error}") from error
