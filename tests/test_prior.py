from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from safetensors.torch import load_file, save_file
from tiny import TINY_NETWORK
from torch import Tensor, nn

from difflid.dehazer import Dehazer, DehazerConfig
from difflid.errors import ConfigError, ModelError
from difflid.network import DiffLI2D
from difflid.prior import LatentSpec, Prior, UNetPrior, UNetPriorConfig, add_noise, alpha_bars, build_unet, fixed_noise

UNET = {
    "sample_size": 16,
    "layers_per_block": 1,
    "block_out_channels": [8, 16, 24],
    "down_block_types": ["ResnetDownsampleBlock2D", "DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D", "ResnetUpsampleBlock2D"],
    "attention_head_dim": 8,
    "norm_num_groups": 4,
}
CONFIG = UNetPriorConfig(guide_size=16, unet=UNET)


class Pyramid(nn.Module):
    """Another prior: three fixed strided convolutions, to which all time-steps are one."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = LatentSpec(channels=12, reduction=8, guide_size=32)
        torch.manual_seed(3)
        widths = [3, 6, 9, 12]
        self.levels = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))

    @torch.no_grad()
    def encode(self, guide: Tensor, timesteps: Sequence[int]) -> Tensor:
        for level in self.levels:
            guide = F.silu(level(guide))
        return guide.expand(len(timesteps), *guide.shape)


def unet_prior() -> UNetPrior:
    torch.manual_seed(0)
    return UNetPrior(CONFIG)


def guides(prior: Prior, count: int) -> Tensor:
    size = prior.spec.guide_size
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(5))


@pytest.fixture(params=[unet_prior, Pyramid])
def prior(request: pytest.FixtureRequest) -> Prior:
    return request.param()


def test_latents_are_as_the_spec_says(prior: Prior) -> None:
    spec = prior.spec
    latents = prior.encode(guides(prior, 2), [0, 500, 999])
    assert latents.shape == (3, 2, spec.channels, spec.grid, spec.grid)
    assert latents.dtype == torch.float32
    assert spec.grid * spec.reduction == spec.guide_size
    assert latents.isfinite().all()


def test_latents_are_the_same_on_every_call(prior: Prior) -> None:
    guide = guides(prior, 2)
    first = prior.encode(guide, [0, 500])
    torch.manual_seed(99)
    assert torch.equal(prior.encode(guide, [0, 500]), first)


def test_latents_are_the_same_in_any_batch_and_among_any_time_steps(prior: Prior) -> None:
    guide = guides(prior, 5)
    together = prior.encode(guide, [0, 500, 31])
    alone = prior.encode(guide[3:4], [500])
    torch.testing.assert_close(alone[0, 0], together[1, 3], rtol=1e-5, atol=1e-5)


def test_no_gradient_reaches_the_prior(prior: Prior) -> None:
    guide = guides(prior, 1).requires_grad_()
    latents = prior.encode(guide, [0])
    assert not latents.requires_grad
    trained = nn.Conv2d(prior.spec.channels, 1, 1)
    trained(latents[0]).sum().backward()  # latents may instruct a network in training
    assert trained.weight.grad is not None
    assert guide.grad is None


def test_any_prior_can_instruct_a_network_built_for_its_latents(prior: Prior) -> None:
    spec = prior.spec
    network = replace(TINY_NETWORK, latent_channels=spec.channels, latent_reduction=spec.reduction)
    dehazer = Dehazer(prior, DiffLI2D(network), DehazerConfig(network))
    picture = torch.rand(1, 3, 21, 34)
    clear = dehazer.restore(picture, dehazer.encode(picture)).clear
    assert clear.shape == picture.shape
    with pytest.raises(ModelError, match=rf"gives latents of {spec.channels} channels"):
        Dehazer(prior, DiffLI2D(TINY_NETWORK), DehazerConfig(TINY_NETWORK))


def test_the_guide_and_the_time_step_matter() -> None:
    prior = unet_prior()
    guide = guides(prior, 2)
    latents = prior.encode(guide, [0, 500])
    assert not torch.allclose(latents[0], latents[1], atol=1e-3)
    assert not torch.allclose(latents[:, 0], latents[:, 1], atol=1e-3)


def test_the_unet_prior_is_frozen() -> None:
    prior = unet_prior()
    assert prior.train() is prior
    nn.Sequential(prior).train()
    assert not any(module.training for module in prior.modules())
    assert not any(weight.requires_grad for weight in prior.parameters())


def test_encode_is_diffusion_then_the_bottleneck_of_the_whole_unet() -> None:
    torch.manual_seed(0)
    unet = build_unet(UNET).eval()
    prior = UNetPrior.from_unet(unet, CONFIG)
    guide = guides(prior, 2)
    seen: list[Tensor] = []
    unet.mid_block.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    for step in (7, 640):
        noise = fixed_noise(0, step, (3, 16, 16))
        with torch.no_grad():
            unet(add_noise(guide * 2 - 1, noise, alpha_bars()[step]), step)
    torch.testing.assert_close(prior.encode(guide, [7, 640]), torch.stack(seen), rtol=1e-5, atol=1e-5)


def test_a_prior_is_independent_of_the_unet_it_was_taken_from() -> None:
    unet = build_unet(UNET)
    prior = UNetPrior.from_unet(unet, CONFIG)
    before = prior.unet.conv_in.weight.clone()
    nn.init.zeros_(unet.conv_in.weight)
    assert torch.equal(prior.unet.conv_in.weight, before)
    assert unet.conv_in.weight.requires_grad


def test_noise_depends_on_seed_time_step_and_shape_alone() -> None:
    first = fixed_noise(0, 10, (3, 4, 4))
    torch.manual_seed(1)
    assert torch.equal(fixed_noise(0, 10, (3, 4, 4)), first)
    for other in (fixed_noise(1, 10, (3, 4, 4)), fixed_noise(0, 11, (3, 4, 4))):
        assert (other - first).abs().max() > 0.1
    assert first.dtype == torch.float32
    many = fixed_noise(0, 10, (3, 256, 256))
    assert abs(float(many.mean())) < 0.01
    assert abs(float(many.std()) - 1) < 0.01


def test_the_noise_seed_of_the_configuration_counts() -> None:
    torch.manual_seed(0)
    unet = build_unet(UNET)
    one, two = (UNetPrior.from_unet(unet, replace(CONFIG, noise_seed=seed)) for seed in (0, 1))
    guide = guides(one, 1)
    assert not torch.allclose(one.encode(guide, [500]), two.encode(guide, [500]), atol=1e-4)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("linear", "linear"), ("scaled_linear", "scaled_linear"), ("cosine", "squaredcos_cap_v2")]
)
def test_schedules_are_those_of_diffusers(ours: str, theirs: str) -> None:
    reference = DDPMScheduler(beta_schedule=theirs, beta_start=2e-4, beta_end=0.015)
    values = alpha_bars(beta_start=2e-4, beta_end=0.015, schedule=ours).float()
    torch.testing.assert_close(values, reference.alphas_cumprod, rtol=1e-4, atol=1e-7)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match="'cosine', got 'sigmoid'"):
        alpha_bars(schedule="sigmoid")


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 3, 16, 8), (1, 1, 16, 16), (1, 3, 32, 32)])
def test_another_guide_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(B, 3, 16, 16\)"):
        unet_prior().encode(torch.zeros(shape), [0])


@pytest.mark.parametrize("timesteps", [[], [-1], [0, 1000]])
def test_another_time_step_is_refused(timesteps: list[int]) -> None:
    with pytest.raises(ValueError, match=r"integers in \[0, 999\]"):
        unet_prior().encode(torch.zeros(1, 3, 16, 16), timesteps)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 4}, "3 input channels"),
        ({"num_class_embeds": 10}, "unconditional"),
        ({"time_embedding_type": "fourier"}, "integer time-steps"),
        ({"mid_block_type": None}, "a middle block"),
        ({"down_block_types": ["SkipDownBlock2D", "DownBlock2D", "DownBlock2D"]}, "got SkipDownBlock2D"),
        ({"norm_num_groups": 5}, "do not make a UNet2DModel"),
        ({"colour": "red"}, "do not make a UNet2DModel"),
    ],
)
def test_a_unet_that_cannot_be_a_prior_is_refused(changes: dict[str, object], message: str) -> None:
    sizes = {"block_out_channels": [32, 32, 32], "norm_num_groups": 8} if "SkipDownBlock2D" in str(changes) else {}
    with pytest.raises(ConfigError, match=message):
        UNetPrior(replace(CONFIG, unet=UNET | sizes | changes))


def test_a_guide_that_does_not_fit_the_grid_is_refused() -> None:
    with pytest.raises(ConfigError, match="guide_size 18 is not a multiple of the reduction 4"):
        UNetPrior(replace(CONFIG, guide_size=18))
    with pytest.raises(ConfigError, match="attention_heads 5 does not divide the 24 channels"):
        UNetPrior(replace(CONFIG, attention_heads=5))


@pytest.mark.parametrize(
    "changes", [{}, {"schedule": "cosine", "noise_seed": 4, "attention_heads": 3, "time_channels": 12}]
)
def test_a_saved_prior_gives_the_same_latents(tmp_path: Path, changes: dict[str, object]) -> None:
    prior = UNetPrior(replace(CONFIG, **changes))
    guide = guides(prior, 1)
    prior.save(tmp_path / "a" / "exact", dtype=torch.float32)
    loaded = UNetPrior.load(tmp_path / "a" / "exact")
    assert torch.equal(loaded.encode(guide, [0, 400]), prior.encode(guide, [0, 400]))
    assert asdict(loaded.config) == asdict(prior.config)
    prior.save(tmp_path / "half")
    half = UNetPrior.load(tmp_path / "half")
    assert {weight.dtype for weight in half.parameters()} == {torch.float32}
    torch.testing.assert_close(half.encode(guide, [0, 400]), prior.encode(guide, [0, 400]), rtol=0.01, atol=0.01)
    assert sorted(path.name for path in (tmp_path / "half").iterdir()) == ["config.json", "model.safetensors"]


def test_a_prior_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()  # in the way
    with pytest.raises(OSError, match=r"config\.json"):
        unet_prior().save(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "config.json"]


def test_a_folder_without_the_later_fields_is_read(tmp_path: Path) -> None:
    prior = unet_prior()
    prior.save(tmp_path, dtype=torch.float32)
    text = (tmp_path / "config.json").read_text()
    earlier = text[: text.index(',\n  "schedule"')] + "\n}\n"
    (tmp_path / "config.json").write_text(earlier)
    assert UNetPrior.load(tmp_path).config == prior.config


def damage(folder: Path, kind: str) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    if kind == "no weights":
        weights.unlink()
    elif kind == "no config":
        config.unlink()
    elif kind == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif kind == "config is no object":
        config.write_text("[1]")
    elif kind == "unknown key":
        config.write_text('{"guide_size": 16, "size": 3}')
    elif kind == "another schedule":
        config.write_text(config.read_text().replace('"linear"', '"round"'))
    elif kind == "another width":
        config.write_text(config.read_text().replace("24", "32"))
    elif kind == "a key less":
        state = load_file(weights)
        del state["unet.conv_in.bias"]
        save_file(state, weights)


@pytest.mark.parametrize(
    "kind",
    ["no weights", "no config", "truncated weights", "config is no object", "unknown key", "another schedule",
     "another width", "a key less"],
)  # fmt: skip
def test_a_damaged_folder_is_refused(tmp_path: Path, kind: str) -> None:
    unet_prior().save(tmp_path / "prior")
    damage(tmp_path / "prior", kind)
    with pytest.raises(ModelError, match="prior"):
        UNetPrior.load(tmp_path / "prior")
