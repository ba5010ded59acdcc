"""Cameras, network streams and pipes through a dehazer, while they play.

A thread reads the source, the caller's computes. Where the source plays on whether anybody is ready or not (cameras,
RTSP, UDP, ...), the newest frame is taken, and those that came while another was computed are dropped; other sources
(pipes, HTTP, files) wait. Frames and sound keep their time-stamps, counted from the first frame.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from difflid.dehazer import Dehazer
from difflid.errors import MissingExtra, VideoError
from difflid.files import whole
from difflid.inference.encoder import Encoder
from difflid.inference.film import Film
from difflid.inference.plan import VIDEO_TARGETS
from difflid.inference.settings import FileReport, Settings
from difflid.inference.video import add_copy, copy, decode, explained, known, time_stamp, video_stream

try:
    import av
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
except ImportError:
    raise MissingExtra("video", "video") from None

__all__ = ["PATIENCE", "Source", "dehaze_live"]

PATIENCE = 10.0  # seconds without anything from the source after which it is given up

_PLAYS_ON = re.compile(r"(rtsps?|rtmps?|rtp|srtp|srt|udp|mms[ht]?):")  # protocols whose senders do not wait
_CAMERA = re.compile(r"/dev/video\d+")
_POLL = 0.1  # seconds between two looks whether to stop
_TO_STREAM = {"matroska": {"live": "1", "flush_packets": "1"}, "mpegts": {"flush_packets": "1"}}


@dataclass(frozen=True)
class Source:
    """What is read.

    A camera such as ``/dev/video0``, an address such as ``rtsp://camera/live``, a file, or ``-``: the standard input.
    """

    name: str
    format: str | None = None  # of FFmpeg, container or device; None: found out
    options: Mapping[str, str] | None = None  # of FFmpeg, such as {"video_size": "1280x720"} of a camera
    drop: bool | None = None  # the frames that came while another was computed; None: where the source does not wait

    @property
    def drops(self) -> bool:
        """Whether frames are dropped."""
        plays_on = bool(_PLAYS_ON.match(self.name) or _CAMERA.fullmatch(self.name))
        return plays_on if self.drop is None else self.drop

    def open(self, patience: float) -> InputContainer:
        """Open it; a camera is found by its name."""
        camera = "v4l2" if _CAMERA.fullmatch(self.name) else None
        reliable = {"rtsp_transport": "tcp"} if self.name.startswith("rtsp:") else {}
        return av.open(
            "pipe:0" if self.name == "-" else self.name,
            format=self.format or camera,
            options=reliable | dict(self.options or {}),
            timeout=patience,
        )


def dehaze_live(
    dehazer: Dehazer,
    source: Source,
    target: Path | str,
    settings: Settings | None = None,
    *,
    stop: threading.Event | None = None,
    patience: float = PATIENCE,
    progress: Callable[[int, int], None] | None = None,
) -> FileReport:
    """Dehaze what plays until it ends or ``stop`` is set; the target is complete then, whatever ended it.

    Args:
        dehazer: the model.
        source: what is read.
        target: a file; or ``matroska`` or ``mpegts``, which goes to the standard output.
        settings: None: the defaults.
        stop: is set by another thread or a signal to end it.
        patience: seconds without anything from the source after which it is given up.
        progress: called after each frame with the number of frames done and dropped.

    Raises:
        VideoError: the source does not open, stalls or breaks, or the target cannot be written. What had come before is
            in the target.
    """
    settings, start = settings or Settings(), time.perf_counter()
    with explained(source.name, target):
        player = _Player(source, patience, stop or threading.Event())
        try:
            with _writer(target) as writer:
                played = _Played(dehazer, settings, writer, player)
                played.play(progress)
        finally:
            player.close()
        if player.failure and not player.stopped:
            raise VideoError(f"{player.failure}; the {played.count} frames that came before are written")
    seconds = time.perf_counter() - start
    report = FileReport(source.name, played.size, played.veil / played.count, seconds, played.count, player.damaged)
    return replace(report, dropped=player.dropped)


@contextmanager
def _writer(target: Path | str) -> Iterator[OutputContainer]:
    if isinstance(target, Path):
        if target.suffix.lower() not in VIDEO_TARGETS:
            raise VideoError(f"expected one of {', '.join(sorted(VIDEO_TARGETS))} as target")
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as path, av.open(str(path), "w") as writer:
            yield writer
    elif target in _TO_STREAM:
        with av.open("pipe:1", "w", format=target, container_options=_TO_STREAM[target]) as writer:
            yield writer
    else:
        raise VideoError(f"cannot stream as {target}; expected {' or '.join(_TO_STREAM)}")


class _Played:
    """What has come from a player, on its way to a writer."""

    def __init__(self, dehazer: Dehazer, settings: Settings, writer: OutputContainer, player: _Player) -> None:
        first, video = player.first_frame()
        self._player, self._writer = player, writer
        self._encoder = Encoder(writer, first, video, settings, live=True)
        self._film = Film(dehazer, settings, first, self._encoder.time_base, self._encoder.pixel_format)
        self._copies = {stream.index: add_copy(writer, stream, True) for stream in player.sounds(writer)}
        self._origin = first.pts or 0
        self._due: int | None = None
        self.size, self.count, self.veil = self._film.size, 0, 0.0

    def play(self, progress: Callable[[int, int], None] | None) -> None:
        """Dehaze and write until the player ends."""
        for item in self._player.items():
            if isinstance(item, Packet):
                self._copy(item)
                continue
            item.pts = None if item.pts is None else item.pts - self._origin
            item.pts = now = time_stamp(item, self._due)
            self._due = now + 1
            clear, score = self._film.dehaze(item)
            self.count, self.veil = self.count + 1, self.veil + score
            self._write(self._encoder.encode(clear))
            if progress:
                progress(self.count, self._player.dropped)
        if not self.count:
            raise VideoError("it was stopped before a frame came")
        self._write(self._encoder.end_part())

    def _write(self, packets: list[Packet[Any]]) -> None:
        self._writer.mux([self._encoder.for_writer(packet) for packet in packets])

    def _copy(self, packet: Packet[Any]) -> None:
        """Copy sound, counted from the first frame; what came before it is left out."""
        stream = self._copies.get(packet.stream.index)
        if stream is None or packet.pts is None or packet.time_base is None:
            return
        begin = round(self._origin * self._encoder.time_base / packet.time_base)
        if packet.pts >= begin:
            packet.pts -= begin
            packet.dts = packet.pts if packet.dts is None else packet.dts - begin
            copy(packet, stream, self._writer)


class _Player:
    """A thread that reads a source; what it read waits to be taken.

    Args:
        source: what is read.
        patience: seconds to wait for it.
        stop: ends it.
    """

    def __init__(self, source: Source, patience: float, stop: threading.Event) -> None:
        self._source, self._patience, self._stop = source, patience, stop
        self._waiting: deque[VideoFrame | Packet[Any]] = deque()  # one frame, and the sound that came with it
        self._changed = threading.Condition()
        self._ended, self._closed = False, False
        self._taken = False  # whether the first frame was
        self._reader: InputContainer | None = None
        self.failure: Exception | None = None
        self.dropped = self.damaged = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def stopped(self) -> bool:
        """Whether it was asked to end."""
        return self._stop.is_set()

    def first_frame(self) -> tuple[VideoFrame, VideoStream]:
        """Wait for the first frame, which stays in line.

        Raises:
            VideoError: none comes.
        """
        if self._wait(self._frames) and self._reader:
            return self._frames()[0], self._reader.streams.video[0]
        raise self.failure or VideoError("it was stopped before a frame came" if self.stopped else "it has no frame")

    def sounds(self, writer: OutputContainer) -> list[Any]:
        """Name the streams of sound that the writer can hold."""
        streams = known(self._reader.streams.audio) if self._reader else ()
        return [stream for stream in streams if stream.codec_context.name in writer.supported_codecs]

    def items(self) -> Iterator[VideoFrame | Packet[Any]]:
        """Take what comes, until the source ends, fails or is stopped."""
        while self._wait(lambda: self._waiting):
            with self._changed:
                item = self._waiting.popleft()
                self._taken = self._taken or isinstance(item, VideoFrame)
                self._changed.notify_all()
            yield item

    def close(self) -> None:
        """End the thread, which may hang in a pipe for ever."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout=1.0)

    def _frames(self) -> list[VideoFrame]:
        return [item for item in self._waiting if isinstance(item, VideoFrame)]

    def _wait(self, ready: Callable[[], object]) -> bool:
        """Wait until there is something; say whether there is."""
        deadline = time.monotonic() + self._patience
        with self._changed:
            while not ready() and not self._ended and not self.stopped:
                if time.monotonic() > deadline:
                    self.failure = self._nothing_came()
                    break
                self._changed.wait(_POLL)
            return bool(ready()) and not self.stopped

    def _nothing_came(self) -> VideoError:
        return VideoError(f"nothing came for {self._patience:g} seconds")

    def _read(self) -> None:
        try:
            with self._source.open(self._patience) as self._reader:
                self._demux(self._reader)
        except av.ExitError:  # the time-out of FFmpeg
            self.failure = self.failure or self._nothing_came()
        except (av.FFmpegError, OSError, ValueError, VideoError) as error:
            self.failure = self.failure or error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _demux(self, reader: InputContainer) -> None:
        video = video_stream(reader)
        video.codec_context.thread_type = "SLICE"  # threads that work at several frames would hold some back
        for packet in reader.demux(video, *reader.streams.audio):
            if self._closed or self.stopped:
                return
            if packet.stream.index != video.index:
                self._put(packet)
                continue
            frames = decode(packet)
            self.damaged += frames is None
            for frame in frames or ():
                self._put(frame)

    def _put(self, item: VideoFrame | Packet[Any]) -> None:
        with self._changed:
            if isinstance(item, VideoFrame):
                waiting = self._frames()
                if waiting and self._source.drops:
                    self.dropped += 1
                    if not self._taken:  # time and sound count from the first frame
                        return
                    self._waiting.remove(waiting[0])
                self._changed.wait_for(lambda: not self._frames() or self._closed)
            self._waiting.append(item)
            self._changed.notify_all()
