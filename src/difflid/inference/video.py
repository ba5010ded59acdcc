"""Video through a dehazer: frames are dehazed and encoded, sound and subtitles copied as they are.

Reading and writing is PyAV's (FFmpeg). Frames keep their time-stamps, whatever the frame rate does; colours are taken
and given back by the matrix and range that the file states, in 16 bit per channel.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from difflid.dehazer import Dehazer
from difflid.errors import MissingExtra, VideoError
from difflid.files import whole
from difflid.inference.encoder import Encoder, kept
from difflid.inference.film import Film
from difflid.inference.parts import PART, Part, Parts, key_of
from difflid.inference.settings import FileReport, Progress, Settings

try:
    import av
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
except ImportError:
    raise MissingExtra("video", "video") from None

__all__ = ["add_copy", "copy", "decode", "dehaze_video", "explained", "known", "time_stamp", "video_stream"]

log = logging.getLogger(__name__)

_KEPT_IN_MP4 = {"movflags": "use_metadata_tags+faststart"}  # all metadata; playable while it is downloaded
_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder"}  # metadata that a writer makes anew
_WARM = 6.3  # time constants of the smoothing after which what was seen before hardly counts (5 %, of three averages)


def dehaze_video(
    dehazer: Dehazer,
    source: Path,
    target: Path,
    settings: Settings | None = None,
    *,
    progress: Progress | None = None,
) -> FileReport:
    """Dehaze the first video stream of a file; the target appears complete or not at all.

    What an earlier run had done when it was interrupted is taken from there, if film, model and settings are the same.

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
    with explained(source, target), _open(source) as reader, whole(target) as path:
        target.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", container_options=_KEPT_IN_MP4) as writer:
            first, video = _first_frame(source), reader.streams.video[0]
            encoder = Encoder(writer, first, video, settings)
            film = Film(dehazer, settings, first, encoder.time_base, encoder.pixel_format)
            parts = Parts(target, key_of(dehazer, source, settings, encoder.time_base))
            work = _Work(film, encoder, parts, settings.smoothing)
            _convey(reader, writer, work, settings.writing.metadata, progress)
        if not work.count:
            raise VideoError("it has no frame")
        score, seconds = work.veil / work.count, time.perf_counter() - start
    parts.clear()
    return FileReport(str(source), film.size, score, seconds, work.count, work.damaged)


def _open(source: Path) -> InputContainer:
    reader = av.open(str(source))
    try:
        video_stream(reader).thread_type = "AUTO"
    except VideoError:
        reader.close()
        raise
    return reader


def video_stream(reader: InputContainer) -> VideoStream:
    """Give the stream that is dehazed.

    Raises:
        VideoError: there is none that can be decoded.
    """
    if not reader.streams.video:
        raise VideoError("it has no video stream")
    if reader.streams.video[0].codec_context is None:
        raise VideoError("FFmpeg does not know the codec of its video")
    return reader.streams.video[0]


def _first_frame(source: Path) -> VideoFrame:
    """Decode one frame: it states colours and rotation, which the header need not."""
    with _open(source) as reader:
        for packet in reader.demux(reader.streams.video[0]):
            for frame in decode(packet) or ():
                return frame
    raise VideoError("it has no frame")


def _convey(
    reader: InputContainer, writer: OutputContainer, work: _Work, metadata: bool, progress: Progress | None
) -> None:
    video, others = reader.streams.video[0], known([*reader.streams.audio, *reader.streams.subtitles])
    copies = {stream.index: add_copy(writer, stream, metadata) for stream in others}
    if metadata:
        writer.metadata.update({key: value for key, value in reader.metadata.items() if key not in _OF_THE_FILE})
    writer.set_chapters(reader.chapters())
    expected = video.frames or _frames_by_duration(reader, video)
    for packet in reader.demux(video, *others):
        if packet.stream.index in copies:
            copy(packet, copies[packet.stream.index], writer)
            continue
        frames = decode(packet)
        work.damaged += frames is None
        for frame in frames or ():
            writer.mux(work.take(frame))
            if progress:
                progress(work.count, expected)
    writer.mux(work.end())


def decode(packet: Packet[Any]) -> list[VideoFrame] | None:
    """Decode what there is; None where the packet is damaged, which the frames after it may not be."""
    try:
        return packet.decode()
    except av.InvalidDataError:
        return None


def _frames_by_duration(reader: InputContainer, video: VideoStream) -> int | None:
    if reader.duration is None or not video.average_rate:
        return None
    return round(reader.duration / av.time_base * video.average_rate)


def known(streams: Sequence[Stream]) -> list[Stream]:
    """Leave out, and say so, the streams whose codec FFmpeg does not know: they cannot be copied."""
    for stream in streams:
        if stream.codec_context is None:
            log.warning("%s: %s left out, whose codec FFmpeg does not know", stream.container.name, stream.type)
    return [stream for stream in streams if stream.codec_context is not None]


def add_copy(writer: OutputContainer, stream: Stream, metadata: bool) -> Stream:
    """Add a stream for the packets of ``stream``."""
    name = stream.codec_context.name
    if name not in writer.supported_codecs:
        raise VideoError(f"a {writer.format.name} file cannot hold {stream.type} as {name}; write an .mkv file")
    copy = writer.add_stream_from_template(stream)
    copy.metadata.update(kept(stream.metadata, metadata))
    return copy


def copy(packet: Packet[Any], stream: Stream, writer: OutputContainer) -> None:
    """Write a packet as it is."""
    if packet.size:  # else it says that the stream ends
        packet.stream = stream
        writer.mux(packet)


def time_stamp(frame: VideoFrame, due: int | None) -> int:
    """Encoders need time-stamps, and each greater than the last: at least ``due``."""
    if due is None:
        return frame.pts or 0
    return due if frame.pts is None else max(frame.pts, due)


class _Work:
    """From frames to packets, in parts; those that an earlier run has done are not done again."""

    def __init__(self, film: Film, encoder: Encoder, parts: Parts, smoothing: float) -> None:
        self._film, self._encoder, self._parts = film, encoder, parts
        self._done = parts.done()
        self._before = PART * len(self._done)  # frames that are done
        self._warm_from = self._done[-1].end * encoder.time_base - _WARM * smoothing if self._done else 0.0
        self._due: int | None = None  # least time-stamp of the next frame
        self._packets: list[Packet[Any]] = []  # of the part
        self._part_veil = 0.0
        self.count, self.damaged, self.veil = 0, 0, 0.0

    def take(self, frame: VideoFrame) -> list[Packet[Any]]:
        """Dehaze a frame and give what can be written."""
        frame.pts = now = time_stamp(frame, self._due)
        self._due = now + 1
        index, self.count = self.count, self.count + 1
        if index < self._before:
            return self._skip(frame, index, now * self._encoder.time_base > self._warm_from)
        packets = self._end_part() if index % PART == 0 and index > self._before else []
        clear, score = self._film.dehaze(frame)
        self._part_veil += score
        self.veil += score
        return packets + self._ready(self._encoder.encode(clear))

    def _skip(self, frame: VideoFrame, index: int, near: bool) -> list[Packet[Any]]:
        if near:
            self._film.dehaze(frame)  # so that what follows is averaged with what was there
        if index % PART:
            return []
        part, self._done[index // PART] = self._done[index // PART], Part((), 0.0)  # it is not needed any more
        self.veil += part.veil
        return [self._encoder.for_writer(packet) for packet in part.packets]

    def end(self) -> list[Packet[Any]]:
        """Give what the encoder has held back."""
        return self._ready(self._encoder.end_part())

    def _end_part(self) -> list[Packet[Any]]:
        packets = self.end()
        self._parts.keep(self.count // PART - 1, Part(self._packets, self._part_veil))
        self._packets, self._part_veil = [], 0.0
        return packets

    def _ready(self, packets: list[Packet[Any]]) -> list[Packet[Any]]:
        self._packets += packets
        return [self._encoder.for_writer(packet) for packet in packets]


@contextmanager
def explained(source: object, target: object) -> Iterator[None]:
    """Say of every failure what could not be done."""
    try:
        yield
    except VideoError as error:
        raise VideoError(f"cannot dehaze {source}: {error}") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"cannot dehaze {source} to {target}: {error}") from error
