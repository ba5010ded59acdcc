"""How frames become packets: the encoder of a film like the one that is read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, cast

import numpy as np
import torch

from difflid.errors import MissingExtra, VideoError
from difflid.inference.settings import Settings

try:
    import av
    from av.codec.codec import Codec, UnknownCodecError
    from av.container import OutputContainer
    from av.packet import Packet
    from av.sidedata.sidedata import Type as SideData
    from av.video.codeccontext import VideoCodecContext
    from av.video.format import VideoFormat
    from av.video.frame import VideoFrame
    from av.video.reformatter import Colorspace
    from av.video.stream import VideoStream
except ImportError:
    raise MissingExtra("video", "video") from None

__all__ = ["Encoder", "colours", "kept"]

log = logging.getLogger(__name__)

_RGB = 0  # the matrix of what is coded as RGB: none
_CODECS = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}  # who encodes what
_X264 = ("libx264", "libx264rgb")
# With AVX-512 the macroblock tree of libx264 165 reads memory that nobody wrote, unless 128 divides the width.
_REPEATABLE = {"x264-params": "asm=avx2"}
_QUALITY = {  # that can hardly be told from the original
    "libx264": {"crf": "18"},
    "libx265": {"crf": "20", "x265-params": "log-level=error"},
    "libsvtav1": {"crf": "24", "preset": "8"},
    "libvpx-vp9": {"crf": "24", "b": "0", "row-mt": "1", "deadline": "good", "cpu-used": "4"},
}
_AT_ONCE = {  # no frame is held back
    "libx264": {"preset": "veryfast", "tune": "zerolatency"},
    "libx265": {"preset": "veryfast", "tune": "zerolatency"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "6", "lag-in-frames": "0"},
}


class Encoder:
    """Encode frames like ``first`` for a stream like ``video``, which is added to ``writer``.

    Frames may be encoded in parts: each is decoded without the others.

    Args:
        writer: where the packets will go.
        first: of the frames.
        video: the stream that is read.
        settings: codec, quality and metadata.
        live: hold no frame back.
    """

    def __init__(
        self, writer: OutputContainer, first: VideoFrame, video: VideoStream, settings: Settings, *, live: bool = False
    ) -> None:
        if first.interlaced_frame:
            log.warning("%s is interlaced, its result will be progressive: deinterlace it first", video.container.name)
        deep = max(component.bits for component in first.format.components) > 8
        codec = _find_codec(_CODECS.get(settings.codec or "", settings.codec) or _default_codec(writer, deep), writer)
        self._name, self._first, self._video = codec.name, first, video
        self._options = _options(self._name, settings.crf, live)
        self._pixels = _pixel_format(first, deep, [format.name for format in codec.video_formats or ()])
        self._rate = video.average_rate or Fraction(25)
        self._stream: VideoStream = writer.add_stream(self._name, rate=self._rate, options=self._options)  # type: ignore[assignment]
        self._prepare(self._stream.codec_context)
        if self._name == "libx265" and "mp4" in writer.format.name:
            self._stream.codec_context.codec_tag = "hvc1"  # which players of Apple ask for
        if first.rotation:
            matrix = first.side_data[SideData.DISPLAYMATRIX]  # type: ignore[typeddict-item]
            self._stream.set_display_matrix(np.frombuffer(bytes(matrix), np.int32).tolist())
        self._stream.metadata.update(kept(video.metadata, settings.writing.metadata))
        self._part: VideoCodecContext | None = None
        self._frames = 0  # of the part
        self._decoding_time: int | None = None  # of the last packet

    @property
    def time_base(self) -> Fraction:
        """Unit of the time-stamps."""
        return self._stream.codec_context.time_base

    @property
    def pixel_format(self) -> str:
        """Of the frames to encode."""
        return self._pixels

    def encode(self, frame: VideoFrame) -> list[Packet[Any]]:
        """Give what is ready after the next frame."""
        if self._part is None:
            self._part, self._frames = self._begin(), 0
        self._frames += 1
        return self._part.encode(frame)

    def _begin(self) -> VideoCodecContext:
        context = cast(VideoCodecContext, av.CodecContext.create(self._name, "w"))
        context.flags = self._stream.codec_context.flags
        context.framerate = self._rate
        context.options = dict(self._options)
        self._prepare(context)
        return context

    def end_part(self) -> list[Packet[Any]]:
        """Give what was held back; the next frame can be decoded without those before."""
        packets = self._part.encode(None) if self._part else []
        self._part = None
        if self._frames <= 2:  # too few for frames out of order, and libx265 leaves their decoding times to chance
            for packet in packets:
                packet.dts = packet.pts
        return packets

    def for_writer(self, packet: Packet[Any]) -> Packet[Any]:
        """Prepare a packet of the film to be written; decoding times rise from part to part too."""
        if packet.dts is not None:
            if self._decoding_time is not None:
                packet.dts = max(packet.dts, self._decoding_time + 1)
            self._decoding_time = packet.dts
        packet.stream, packet.time_base = self._stream, self.time_base
        return packet

    def _prepare(self, context: VideoCodecContext) -> None:
        context.width, context.height = self._first.width, self._first.height
        context.pix_fmt = self._pixels
        context.time_base = self._video.time_base or Fraction(1, 90_000)
        context.sample_aspect_ratio = self._video.sample_aspect_ratio or Fraction(0, 1)
        for name, value in colours(self._first, self._pixels).items():
            setattr(context, name, value)


def colours(frame: VideoFrame, pixel_format: str) -> dict[str, int]:
    """Say how a result is coded: as ``frame``, but RGB has no matrix, and what was RGB and no longer is needs one."""
    matrix, was_rgb = frame.colorspace, frame.format.is_rgb or frame.colorspace == _RGB
    if VideoFormat(pixel_format).is_rgb:
        matrix = _RGB
    elif was_rgb:
        matrix = Colorspace.ITU709
    names = ("color_range", "color_primaries", "color_trc")
    return {"colorspace": matrix, **{name: getattr(frame, name) for name in names}}


def kept(tags: Mapping[str, str], everything: bool) -> dict[str, str]:
    """Keep the tags of a stream, or only what chooses among streams."""
    return {key: value for key, value in tags.items() if everything or key == "language"}


def _find_codec(name: str, writer: OutputContainer) -> Codec:
    try:
        codec = Codec(name, "w")
    except UnknownCodecError:
        codec = None
    if codec is None or codec.type != "video":
        raise VideoError(f"{name} encodes no video; expected {', '.join(_CODECS)} or a video encoder of FFmpeg")
    if not {codec.name, codec.canonical_name} & writer.supported_codecs:
        raise VideoError(f"a {writer.format.name} file cannot hold {codec.canonical_name}; write an .mkv file")
    return codec


def _default_codec(writer: OutputContainer, deep: bool) -> str:
    if "libx264" not in writer.supported_codecs:
        return _CODECS["vp9"]
    return _CODECS["hevc" if deep else "h264"]


def _options(codec: str, crf: int | None, live: bool) -> dict[str, str]:
    at_once = _AT_ONCE.get(codec, {}) if live else {}
    repeatable = _REPEATABLE if codec in _X264 and torch.cpu._is_avx512_supported() else {}
    return _QUALITY.get(codec, {}) | at_once | repeatable | ({} if crf is None else {"crf": str(crf)})


def _pixel_format(frame: VideoFrame, deep: bool, known: Sequence[str]) -> str:
    """Keep the format where the encoder knows it; else halve the colours, unless the size is odd."""
    own = frame.format.name.replace("yuvj", "yuv")  # the range is stated apart
    if own in known and not any(component.is_alpha for component in frame.format.components):
        return own
    sampling = "444" if frame.width % 2 or frame.height % 2 else "420"
    usual = f"yuv{sampling}p{'10le' if deep else ''}"
    return usual if usual in known or not known else known[0]
