"""How pictures and video are dehazed, and what is said of it."""

from collections.abc import Callable
from dataclasses import dataclass

from difflid.dehazer import Detail
from difflid.image import Writing
from difflid.inference.steady import SMOOTHING

__all__ = ["UNCHANGED", "FileFailure", "FileReport", "Progress", "Settings"]

UNCHANGED = Writing()  # encoded as the source was

Progress = Callable[[int, int | None], None]  # frames done; frames expected, None where the file does not tell


@dataclass(frozen=True)
class Settings:
    """How a picture or a video is dehazed."""

    strength: float = 1.0  # see `Dehazer.restore`
    tile: int | None = None  # see `Dehazer.restore`
    detail: Detail = "auto"  # see `Dehazer.dehaze`
    maps: bool = False  # of pictures: write STEM.NAME.png beside a target file, transmission, depth and airlight
    white_balance: bool = False  # of pictures, see `Dehazer.dehaze`
    writing: Writing = UNCHANGED  # how a picture is encoded
    smoothing: float = SMOOTHING  # of video, see `Steady`
    codec: str | None = None  # of video, a name of FFmpeg; None: by container and depth
    crf: int | None = None  # of video: quality as the codec counts it, lower is better; None: visually lossless


@dataclass(frozen=True)
class FileReport:
    """What was done with one picture or video."""

    name: str
    size: tuple[int, int]  # width and height
    haze_score: float  # share of veil in [0, 1]; of video, the mean over its frames
    seconds: float  # of work on this picture, though others are worked at meanwhile
    frames: int = 1
    damaged: int = 0  # parts of a video that could not be decoded and were left out
    dropped: int = 0  # frames of what plays that came while another was computed
    left_alone: bool = False  # no haze was found, and the picture is as it was


@dataclass(frozen=True)
class FileFailure:
    """A picture or video that could not be dehazed."""

    name: str
    error: Exception
