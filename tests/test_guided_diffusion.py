import gc
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from guided_unet import GuidedUNet, Shape

from difflid.errors import ModelError
from difflid.prior import CheckpointOptions, UNetPrior, build_unet, convert_checkpoint
from difflid.prior.guided_diffusion import _RELEASES, _configure, _read_layout, _settle

LEGACY = CheckpointOptions(guide_size=16, schedule="linear", qkv_order="legacy", head_channels=32)
TINY = Shape(multipliers=(1, 2), attention=(1,))


def write(folder: Path, shape: Shape) -> tuple[GuidedUNet, Path]:
    torch.manual_seed(0)
    reference = GuidedUNet(shape).eval()
    for name, weight in reference.named_parameters():
        if "norm" in name or name.split(".")[-2] == "0":
            torch.nn.init.normal_(weight, std=0.3)  # group norms start as 1 and 0, which hides mistakes
    path = folder / "model.pt"
    torch.save(reference.state_dict(), path)
    return reference, path


@torch.no_grad()
def relative_error(prior: UNetPrior, reference: GuidedUNet, size: int, extra: torch.Tensor | float = 0.0) -> float:
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    steps = torch.tensor([3, 907])
    expected = reference.bottleneck(x, reference.embed(steps, extra))
    return float((prior._bottleneck(x, steps) - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    "shape",
    [
        TINY,
        replace(TINY, new_order=True),
        replace(TINY, multipliers=(1, 2, 3), attention=(0, 2), blocks=2),
        replace(TINY, multipliers=(1, 1, 2), attention=(), blocks=3, out_channels=3),
        replace(TINY, channels=64, multipliers=(0.5, 1, 2), attention=(2,)),
        replace(TINY, multipliers=(1, 3), heads=4, head_channels=None),
        replace(TINY, multipliers=(1, 3), heads=4, head_channels=None, new_order=True),
        replace(TINY, scale_shift=False),
        replace(TINY, residual_updown=False),
        replace(TINY, residual_updown=False, scale_shift=False, attention=(0,), blocks=2),
        replace(TINY, multipliers=(2,), attention=(0,), blocks=2),
    ],
    ids=str,
)
def test_bottleneck_is_that_of_the_original(tmp_path: Path, shape: Shape) -> None:
    reference, path = write(tmp_path, shape)
    order = "new" if shape.new_order else "legacy"
    options = CheckpointOptions(16, "linear", order, head_channels=shape.head_channels, heads=shape.heads)
    convert_checkpoint(path, options).save(tmp_path / "prior", dtype=torch.float32)
    prior = UNetPrior.load(tmp_path / "prior")
    for size in (8, 12, 24):
        assert relative_error(prior, reference, size) < 1e-5


def test_half_precision_is_close(tmp_path: Path) -> None:
    reference, path = write(tmp_path, TINY)
    convert_checkpoint(path, LEGACY).save(tmp_path / "prior")
    assert relative_error(UNetPrior.load(tmp_path / "prior"), reference, 16) < 3e-3


def test_the_order_of_qkv_matters(tmp_path: Path) -> None:
    reference, path = write(tmp_path, TINY)
    assert relative_error(convert_checkpoint(path, replace(LEGACY, qkv_order="new")), reference, 16) > 1e-3


@pytest.mark.parametrize("label", [None, 0, 6])
def test_a_class_is_folded_into_the_time_embedding(tmp_path: Path, label: int | None) -> None:
    reference, path = write(tmp_path, replace(TINY, classes=7))
    prior = convert_checkpoint(path, LEGACY, class_label=label)
    classes = reference.label_emb.weight
    extra = classes.mean(0) if label is None else classes[label]
    assert relative_error(prior, reference, 16, extra) < 1e-5
    assert relative_error(prior, reference, 16) > 1e-3


def test_a_class_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="knows no classes"):
        convert_checkpoint(write(tmp_path, TINY)[1], LEGACY, class_label=1)
    with pytest.raises(ModelError, match=r"in \[0, 6\], got 7"):
        convert_checkpoint(write(tmp_path, replace(TINY, classes=7))[1], LEGACY, class_label=7)


def test_only_the_encoder_half_is_kept(tmp_path: Path) -> None:
    reference, path = write(tmp_path, TINY)
    prior = convert_checkpoint(path, LEGACY)
    kept = [weight for name, weight in reference.named_parameters() if not name.startswith("out")]
    assert sum(weight.numel() for weight in prior.parameters()) == sum(weight.numel() for weight in kept)


def test_a_half_precision_checkpoint_is_read_as_float32(tmp_path: Path) -> None:
    reference, path = write(tmp_path, TINY)
    torch.save({key: value.half() for key, value in reference.state_dict().items()}, path)
    prior = convert_checkpoint(path, LEGACY)
    assert {weight.dtype for weight in prior.parameters()} == {torch.float32}


RELEASED = {
    "64x64": Shape(192, (1, 2, 3, 4), 3, (1, 2, 3), 64, new_order=True, classes=1000),
    "128x128": Shape(256, (1, 1, 2, 3, 4), 2, (2, 3, 4), None, heads=4, classes=1000),
    "256x256 or LSUN": Shape(256, (1, 1, 2, 2, 4, 4), 2, (3, 4, 5), 64),
    "512x512": Shape(256, (0.5, 1, 1, 2, 2, 4, 4), 2, (4, 5, 6), 64, classes=1000),
}


@pytest.mark.parametrize("name", RELEASED)
def test_the_models_of_the_release_are_recognised_by_their_shapes(name: str) -> None:
    shape = RELEASED[name]
    with torch.device("meta"):
        state = GuidedUNet(shape).state_dict()
        layout = _read_layout(state)
        settled = _settle(layout, CheckpointOptions())
        prior = UNetPrior(_configure(layout, settled))
    assert _RELEASES[layout.shape][0] == name
    size = int(name[:3].rstrip("x"))
    assert settled.guide_size == prior.spec.guide_size == size
    assert prior.spec.channels == shape.widths[-1]
    assert settled.schedule == ("cosine" if size == 64 else "linear")
    assert (settled.qkv_order == "new") == shape.new_order
    assert (settled.head_channels, settled.heads) == (shape.head_channels, shape.heads)
    kept = [value.numel() for key, value in state.items() if not key.startswith(("out", "label_emb"))]
    assert sum(weight.numel() for weight in prior.parameters()) == sum(kept)


@pytest.mark.parametrize(
    "wrong",
    [
        CheckpointOptions(qkv_order="new"),
        CheckpointOptions(schedule="cosine"),
        CheckpointOptions(head_channels=32),
        CheckpointOptions(heads=4),
    ],
)
def test_an_option_that_contradicts_the_release_is_refused(wrong: CheckpointOptions) -> None:
    with torch.device("meta"):
        layout = _read_layout(GuidedUNet(RELEASED["256x256 or LSUN"]).state_dict())
    with pytest.raises(ModelError, match="this is the 256x256 or LSUN model of the release, whose"):
        _settle(layout, wrong)
    assert _settle(layout, CheckpointOptions(guide_size=128)).guide_size == 128


def test_what_the_shapes_do_not_tell_is_asked_for(tmp_path: Path) -> None:
    _, path = write(tmp_path, TINY)
    with pytest.raises(ModelError, match=r"give guide_size, schedule .*, qkv_order .*, one of head_channels and heads"):
        convert_checkpoint(path)
    with pytest.raises(ModelError, match="give one of head_channels and heads"):
        convert_checkpoint(path, replace(LEGACY, heads=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (replace(LEGACY, head_channels=48), "head_channels 48 does not divide an attention of 64"),
        (replace(LEGACY, head_channels=128), "head_channels 128 does not divide"),
        (replace(LEGACY, head_channels=None, heads=3), "heads 3 does not divide an attention of 64"),
        (replace(LEGACY, guide_size=15), "not a multiple of the reduction 2"),
        (replace(LEGACY, schedule="quadratic"), "schedule must be"),
    ],
)
def test_a_wrong_option_is_refused(tmp_path: Path, options: CheckpointOptions, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        convert_checkpoint(write(tmp_path, TINY)[1], options)


class Malice:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path, touched = tmp_path / "evil.pt", tmp_path / "touched"
    torch.save({"time_embed.0.weight": Malice(touched)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"nothing but tensors, got one with code in it \(getattr\)"):
        convert_checkpoint(path, LEGACY)
    assert not touched.exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    _, path = write(tmp_path, TINY)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError, match=r"model\.pt"):
        convert_checkpoint(path, LEGACY)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        convert_checkpoint(tmp_path / "none.pt", LEGACY)


def states(shape: Shape) -> dict[str, object]:
    """State dicts that are not those of a model that can be a prior."""
    state = GuidedUNet(shape).state_dict()
    first = "input_blocks.1.0.in_layers.2.weight"
    return {
        "a convolution": torch.nn.Conv2d(3, 4, 3).state_dict(),
        "nothing": {},
        "a list": [1, 2],
        "nested": {"state_dict": state},
        "a diffusers U-Net": build_unet({"block_out_channels": (32,), "down_block_types": ("DownBlock2D",),
                                         "up_block_types": ("UpBlock2D",)}).state_dict(),
        "an up-sampler": GuidedUNet(replace(shape, in_channels=6)).state_dict(),
        "a classifier": {key: value for key, value in state.items() if not key.startswith("output_blocks")},
        "a weight missing": {key: value for key, value in state.items() if key != first},
        "a weight of another shape": state | {first: torch.zeros(8, 8, 3, 3)},
        "a weight too many": state | {"input_blocks.1.0.extra.weight": torch.zeros(1)},
        "no time embedding": {key: value for key, value in state.items() if key != "time_embed.2.bias"},
        "a middle less": {key: value for key, value in state.items() if not key.startswith("middle_block.2")},
    }  # fmt: skip


@pytest.mark.parametrize("name", states(TINY))
def test_another_architecture_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "other.pt"
    torch.save(states(replace(TINY, classes=3))[name], path)
    with pytest.raises(ModelError, match=r"other\.pt.*"):
        convert_checkpoint(path, LEGACY)


@pytest.mark.slow
def test_the_model_of_the_paper_in_full(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = RELEASED["256x256 or LSUN"]
    reference = GuidedUNet(shape).eval()
    assert sum(weight.numel() for weight in reference.parameters()) == 552_814_086
    path = tmp_path / "256x256_diffusion_uncond.pt"
    torch.save(reference.state_dict(), path)
    del reference.output_blocks
    gc.collect()
    prior = convert_checkpoint(path)
    assert sum(weight.numel() for weight in prior.parameters()) == 210_904_064
    assert relative_error(prior, reference, 64) < 1e-5
    assert prior.encode(torch.rand(1, 3, 256, 256), [0]).shape == (1, 1, 1024, 8, 8)
    del reference, prior
    with torch.device("meta"):
        layout = _read_layout(GuidedUNet(shape).state_dict())
        whole = build_unet(_configure(layout, _settle(layout, CheckpointOptions())).unet)
    assert sum(weight.numel() for weight in whole.parameters()) == 552_814_086
