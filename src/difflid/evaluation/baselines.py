"""What can be evaluated: a trained model, a classical method, an external program, or the hazy picture as it is."""

import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from difflid import haze, image
from difflid.data.pairs import load_photo
from difflid.errors import ConfigError, DataError, MissingExtra, ModelError
from difflid.files import sha256

__all__ = ["BASELINES", "Method", "as_picture", "command_method", "method", "model_method", "open_methods"]

Restore = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Method:
    """A named way from a hazy picture (1, 3, H, W) in [0, 1] on the CPU to a clear one of the same shape, anywhere."""

    name: str
    restore: Restore
    transmission: Restore | None = None  # (1, 3, H, W) -> (1, 1, H, W), for the pictures of a report
    weights_sha256: Mapping[str, str] = field(default_factory=dict)  # file in the model's folder -> digest
    device: str = "cpu"


def _dark_transmission(hazy: Tensor) -> Tensor:
    return haze.dark_transmission(hazy, haze.estimate_airlight(hazy))


def _clahe(hazy: Tensor) -> Tensor:
    """Equalise the lightness L* in 8 x 8 regions with a limit on contrast (Zuiderveld 1994); a* and b* stay.

    Raises:
        MissingExtra: scikit-image is not installed.
    """
    try:
        from skimage import color, exposure
    except ImportError as error:
        raise MissingExtra("the baseline clahe", "clahe") from error
    lab = color.rgb2lab(image.to_pixels(hazy))
    lab[..., 0] = 100 * exposure.equalize_adapthist((lab[..., 0] / 100).clip(0, 1))  # white is 1 + 4e-8
    return image.to_tensor(color.lab2rgb(lab))


BASELINES: Mapping[str, Method] = {
    baseline.name: baseline
    for baseline in (
        Method("hazy", lambda hazy: hazy),
        Method("dark-channel", haze.dark_channel_dehaze, _dark_transmission),
        Method("colour-attenuation", haze.colour_attenuation_dehaze, haze.attenuation_transmission),
        Method("clahe", _clahe),
    )
}


def method(name: str, device: torch.device | str = "cpu") -> Method:
    """Give a baseline by its name, else the model of this name or folder.

    Args:
        name: of a baseline, a model or a folder.
        device: where a model runs; baselines run on the CPU.

    Raises:
        ModelError: there is no such model.
    """
    return BASELINES.get(name) or model_method(name, device)


def open_methods(names: Sequence[str], device: torch.device | str = "cpu") -> list[Method]:
    """Give several methods; those of one name are called as they were asked for."""
    methods = [method(name, device) for name in names]
    count = Counter(each.name for each in methods)
    return [
        replace(each, name=name) if count[each.name] > 1 else each for each, name in zip(methods, names, strict=True)
    ]


def model_method(name_or_folder: str | Path, device: torch.device | str = "cpu") -> Method:
    """Evaluate a trained model, with automatic tiles and full strength."""
    from difflid.dehazer import Dehazer, Restoration
    from difflid.zoo import find_model

    folder = find_model(name_or_folder)
    dehazer = Dehazer.from_pretrained(folder).to(device)

    def restore(hazy: Tensor) -> Restoration:
        there = hazy.to(device)
        return dehazer.restore(there, dehazer.encode(there))

    digests = {file.relative_to(folder).as_posix(): sha256(file) for file in sorted(folder.rglob("*.safetensors"))}
    name = folder.resolve().name
    return Method(name, lambda hazy: restore(hazy).clear, lambda hazy: restore(hazy).transmission, digests, str(device))


def command_method(command: str) -> Method:
    """Evaluate another program, ``[NAME=]COMMAND``: ``{in}`` and ``{out}`` become PNG files; there is no shell.

    Raises:
        ConfigError: the command lacks {in} or {out}, or its quotes do not close.
    """
    named = re.fullmatch(r"([\w.-]+)=(.+)", command, re.DOTALL)
    name, line = named.groups() if named else ("command", command)
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ConfigError(f"cannot split the command {line!r} into words: {error}") from error
    if not all(any(place in word for word in words) for place in ("{in}", "{out}")):
        raise ConfigError(f"the command must name {{in}} and {{out}}, got {line!r}")
    return Method(name, lambda hazy: _run(words, hazy))


def as_picture(tensor: Tensor) -> image.Picture:
    """Make an 8-bit picture of (1, 3, H, W) in [0, 1]."""
    return image.from_samples(np.rint(image.to_pixels(tensor.clamp(0, 1)) * 255).astype(np.uint8), "RGB")


def _run(words: list[str], hazy: Tensor) -> Tensor:
    with TemporaryDirectory(prefix="difflid-") as folder:
        source, result = Path(folder, "in.png"), Path(folder, "out.png")
        image.save(as_picture(hazy), source)
        _call([word.replace("{in}", str(source)).replace("{out}", str(result)) for word in words])
        try:
            return load_photo(result)
        except DataError as error:
            raise ModelError(f"the command {words[0]} wrote no readable PNG to {{out}}: {error}") from error


def _call(words: list[str]) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise ModelError(f"cannot run {words[0]}: {error}") from error
    if done.returncode:
        raise ModelError(f"{words[0]} ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
