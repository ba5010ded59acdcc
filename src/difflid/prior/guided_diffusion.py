"""OpenAI's guided-diffusion checkpoints as priors (Dhariwal & Nichol 2021, arXiv 2105.05233).

A checkpoint is a bare state dict. Its shapes tell the architecture; they do not tell the order of the rows of ``qkv``,
the heads or the noise schedule. Those are known for the models of the release, and asked for otherwise.

A class-conditional model adds an embedding of the class to that of the time-step. A prior knows no class, so one
embedding, or the mean over all, is folded into the bias of the time embedding.
"""

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from difflid.errors import ModelError
from difflid.prior.unet import UNetPrior, UNetPriorConfig

__all__ = ["CheckpointOptions", "convert_checkpoint"]

_RES_BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ATTENTION = {"norm": "group_norm", "qkv": "qkv", "proj_out": "to_out.0"}
_STEM = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
}
_NOT_CONVERTED = ("output_blocks.", "out.", "label_emb.")


@dataclass(frozen=True)
class CheckpointOptions:
    """What the shapes of a checkpoint do not tell; None: as in the release it is recognised as."""

    guide_size: int | None = None  # side of the guide in pixels; best the size the model was trained at
    schedule: str | None = None  # of the betas: "linear" or "cosine"
    qkv_order: str | None = None  # "legacy": heads before q, k, v; "new": q, k, v before heads
    head_channels: int | None = None  # channels of one attention head; either these or `heads`
    heads: int | None = None  # heads of every attention


@dataclass(frozen=True)
class _Layout:
    """What the shapes of a checkpoint tell."""

    channels: int  # width of the sinusoids of the time-step
    widths: tuple[int, ...]  # channels per level
    blocks: int  # residual blocks per level
    attention: tuple[int, ...]  # levels with attention
    scale_shift: bool  # the time-step scales and shifts, or only shifts
    residual_updown: bool  # levels are joined by residual blocks, or by strided convolutions
    out_channels: int  # 6 where the variance is learned, else 3

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.channels, self.widths, self.blocks, self.attention


_RELEASES: Mapping[tuple[Any, ...], tuple[str, CheckpointOptions]] = {
    (192, (192, 384, 576, 768), 3, (1, 2, 3)): ("64x64", CheckpointOptions(64, "cosine", "new", 64)),
    (256, (256, 256, 512, 768, 1024), 2, (2, 3, 4)): ("128x128", CheckpointOptions(128, "linear", "legacy", heads=4)),
    (256, (256, 256, 512, 512, 1024, 1024), 2, (3, 4, 5)): (
        "256x256 or LSUN",
        CheckpointOptions(256, "linear", "legacy", 64),
    ),
    (256, (128, 256, 256, 512, 512, 1024, 1024), 2, (4, 5, 6)): (
        "512x512",
        CheckpointOptions(512, "linear", "legacy", 64),
    ),
}


def convert_checkpoint(
    path: Path, options: CheckpointOptions = CheckpointOptions(), *, class_label: int | None = None
) -> UNetPrior:
    """Read the encoder half of a guided-diffusion checkpoint.

    Args:
        path: A ``.pt`` file of tensors; it is read without running any code in it.
        options: What the shapes do not tell; needed where the checkpoint is not one of the release.
        class_label: The class that a class-conditional model is told; None: the mean of all.

    Raises:
        ModelError: the file is damaged, holds code or another architecture; an option is missing or contradicts it.
    """
    state = _read_tensors(path)
    try:
        layout = _read_layout(state)
        settled = _settle(layout, options)
        weights = _fold_class(dict(_translate(state, layout, settled)), state.get("label_emb.weight"), class_label)
        return UNetPrior.from_weights(_configure(layout, settled), weights)
    except (ModelError, KeyError, RuntimeError) as error:
        raise ModelError(f"{path}: {error}") from error


def _read_tensors(path: Path) -> Mapping[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"code in it ({code[1]}), which is not run" if code else "something else in it, or it is damaged"
        raise ModelError(f"{path}: expected a checkpoint of nothing but tensors, got one with {what}") from error
    except (OSError, RuntimeError, ValueError, EOFError, LookupError) as error:
        raise ModelError(f"{path} cannot be read as a checkpoint; is it complete? {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path}: expected a flat state dict of tensors, got {_describe(state)}")
    return state


def _describe(value: object) -> str:
    if not isinstance(value, dict):
        return f"a {type(value).__name__}"
    return f"a dict with {', '.join(map(str, list(value)[:4]))}, ..."


def _read_layout(state: Mapping[str, Tensor]) -> _Layout:
    """Read the architecture off names and shapes.

    Down-sampling residual blocks look like any other. But up-sampling ones follow another module in their output
    block, and the first of them ends the last level: its index is the number of residual blocks per level.
    """
    try:
        indices = [key.split(".") for key in state]
        depth = 1 + max(int(index) for name, index, *_ in indices if name == "input_blocks")
        ups = [int(part[1]) for part in indices if part[0] == "output_blocks" and _is_up(part)]
        blocks = min(ups, default=depth - 1)
        firsts = range(1, depth, blocks + 1)  # input block that opens each level
        widths = tuple(len(state[f"input_blocks.{first}.0.out_layers.3.weight"]) for first in firsts)
        inputs = state["input_blocks.0.0.weight"].shape[1]
        if inputs != 3:
            raise ModelError(f"{inputs} input channels, where a prior has 3; an up-sampler is none")
        if depth != len(widths) * (blocks + 1) or "output_blocks.0.0.in_layers.0.weight" not in state:
            raise ModelError(f"{depth} input blocks, which the output blocks do not mirror; a classifier is no prior")
        return _Layout(
            channels=state["time_embed.0.weight"].shape[1],
            widths=widths,
            blocks=blocks,
            attention=tuple(
                level for level, first in enumerate(firsts) if f"input_blocks.{first}.1.norm.weight" in state
            ),
            scale_shift=len(state["input_blocks.1.0.emb_layers.1.weight"]) == 2 * widths[0],
            residual_updown=f"input_blocks.{blocks + 1}.0.in_layers.0.weight" in state,
            out_channels=len(state["out.2.weight"]),
        )
    except (KeyError, IndexError, ValueError, ModelError) as error:
        raise ModelError(
            f"expected the state dict of a guided-diffusion U-Net, got {_describe(dict(state))} ({error})"
        ) from error


def _is_up(part: list[str]) -> bool:
    return part[2] != "0" and part[3] in ("in_layers", "conv")


def _settle(layout: _Layout, given: CheckpointOptions) -> CheckpointOptions:
    """Join what is known of a release and what the caller says."""
    if layout.shape not in _RELEASES:
        return _complete(layout, given)
    name, known = _RELEASES[layout.shape]
    for option in ("schedule", "qkv_order", "head_channels", "heads"):
        said, fact = getattr(given, option), getattr(known, option)
        if said not in (None, fact):
            raise ModelError(
                f"this is the {name} model of the release, whose {option} is {fact}, got {said}: leave it out"
            )
    return replace(known, guide_size=given.guide_size or known.guide_size)


def _complete(layout: _Layout, given: CheckpointOptions) -> CheckpointOptions:
    wanted = {
        "guide_size": given.guide_size is not None,
        "schedule ('linear' or 'cosine')": given.schedule is not None,
        "qkv_order ('legacy' or 'new')": given.qkv_order in ("legacy", "new"),
        "one of head_channels and heads": (given.head_channels is None) != (given.heads is None),
    }
    missing = [option for option, present in wanted.items() if not present]
    if missing:
        raise ModelError(
            f"a model of {layout.channels} channels and levels {layout.widths} is not one of the release, and its "
            f"shapes do not tell everything: give {', '.join(missing)}"
        )
    return given


def _translate(
    state: Mapping[str, Tensor], layout: _Layout, options: CheckpointOptions
) -> Iterator[tuple[str, Tensor]]:
    """Rename the weights of the encoder half as diffusers does."""
    names = _STEM | dict(_blocks(layout))
    for key, value in state.items():
        if key.startswith(_NOT_CONVERTED):
            continue
        module, _, kind = key.rpartition(".")
        if module not in names:
            raise ModelError(f"{key} has no place in a guided-diffusion U-Net of {len(layout.widths)} levels")
        target = names[module]
        if target.endswith(".qkv"):
            for part, rows in zip("qkv", _split_qkv(value, options), strict=True):
                yield f"{target.removesuffix('qkv')}to_{part}.{kind}", rows
        else:
            yield f"{target}.{kind}", value.squeeze(-1) if target.endswith(".to_out.0") else value


def _blocks(layout: _Layout) -> Iterator[tuple[str, str]]:
    """Name every module of the down and middle blocks: theirs, ours."""
    for level in range(len(layout.widths)):
        first, ours = 1 + level * (layout.blocks + 1), f"down_blocks.{level}"
        for block in range(layout.blocks):
            yield from _join(f"input_blocks.{first + block}.0", f"{ours}.resnets.{block}", _RES_BLOCK)
            if level in layout.attention:
                yield from _join(f"input_blocks.{first + block}.1", f"{ours}.attentions.{block}", _ATTENTION)
        if level < len(layout.widths) - 1:
            down = _RES_BLOCK if layout.residual_updown else {"op": "conv"}
            yield from _join(f"input_blocks.{first + layout.blocks}.0", f"{ours}.downsamplers.0", down)
    yield from _join("middle_block.0", "mid_block.resnets.0", _RES_BLOCK)
    yield from _join("middle_block.1", "mid_block.attentions.0", _ATTENTION)
    yield from _join("middle_block.2", "mid_block.resnets.1", _RES_BLOCK)


def _join(theirs: str, ours: str, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, renamed in names.items():
        yield f"{theirs}.{name}", f"{ours}.{renamed}"


def _split_qkv(rows: Tensor, options: CheckpointOptions) -> Tensor:
    """Order the ``3 C`` rows as ``(3, C, ...)``: queries, keys, values, each head after head."""
    rows = rows.squeeze(-1) if rows.ndim == 3 else rows  # a convolution over one dimension, or a bias
    width = len(rows) // 3
    heads = _head_count(width, options)
    if options.qkv_order == "new":
        return rows.reshape(3, width, *rows.shape[1:])
    return rows.reshape(heads, 3, -1, *rows.shape[1:]).transpose(0, 1).reshape(3, width, *rows.shape[1:])


def _head_count(width: int, options: CheckpointOptions) -> int:
    heads = options.heads or width // (options.head_channels or width)
    if heads == 0 or width % heads or (options.head_channels and heads * options.head_channels != width):
        said = f"heads {options.heads}" if options.heads else f"head_channels {options.head_channels}"
        raise ModelError(f"{said} does not divide an attention of {width} channels")
    return heads


def _fold_class(weights: dict[str, Tensor], classes: Tensor | None, label: int | None) -> dict[str, Tensor]:
    """Add the embedding of a class, or the mean of all, to the bias of the time embedding."""
    if classes is None:
        if label is not None:
            raise ModelError(f"class_label {label} was given, but the model knows no classes")
        return weights
    if label is not None and not 0 <= label < len(classes):
        raise ModelError(f"class_label must be in [0, {len(classes) - 1}], got {label}")
    embedding = classes.float().mean(0) if label is None else classes[label].float()
    bias = "time_embedding.linear_2.bias"
    return weights | {bias: weights[bias].float() + embedding}


def _configure(layout: _Layout, options: CheckpointOptions) -> UNetPriorConfig:
    assert options.guide_size is not None and options.schedule is not None  # noqa: PT018
    plain = "Resnet{}sampleBlock2D" if layout.residual_updown else "{}Block2D"
    kinds = ["Attn{}Block2D" if level in layout.attention else plain for level in range(len(layout.widths))]
    resample = "resnet" if layout.residual_updown else "conv"
    unet = {
        "sample_size": options.guide_size,
        "in_channels": 3,
        "out_channels": layout.out_channels,
        "layers_per_block": layout.blocks,
        "block_out_channels": list(layout.widths),
        "down_block_types": [kind.format("Down") for kind in kinds],
        "up_block_types": [kind.format("Up") for kind in reversed(kinds)],
        "attention_head_dim": options.head_channels,
        "downsample_type": resample,
        "upsample_type": resample,
        "resnet_time_scale_shift": "scale_shift" if layout.scale_shift else "default",
        "attn_norm_num_groups": 32,
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
        "time_embedding_type": "positional",
        "time_embedding_dim": 4 * layout.channels,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "act_fn": "silu",
    }
    return UNetPriorConfig(
        guide_size=options.guide_size,
        unet=unet,
        schedule=options.schedule,
        attention_heads=options.heads,
        time_channels=layout.channels,
    )
