import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from difflid.errors import ModelError
from difflid.prior import UNetPrior, add_noise, fixed_noise, import_unet

PLAIN = {
    "sample_size": 16,
    "layers_per_block": 1,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
}
CHURCH = PLAIN | {  # as google/ddpm-church-256
    "layers_per_block": 2,
    "block_out_channels": (8, 8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "downsample_padding": 0,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
}
STYLES = {
    "plain": PLAIN,
    "church": CHURCH,
    "resnet": PLAIN | {"down_block_types": ("ResnetDownsampleBlock2D",) * 2, "resnet_time_scale_shift": "scale_shift"},
    "centred": PLAIN | {"center_input_sample": True},
    "no middle attention": PLAIN | {"add_attention": False, "mid_block_scale_factor": 2.0},
    "learned time": PLAIN | {"time_embedding_type": "learned", "num_train_timesteps": 1000},
}


def make(folder: Path, arguments: dict[str, Any], scheduler: Any = None, *, bare: bool = False) -> UNet2DModel:
    torch.manual_seed(0)
    unet = UNet2DModel(**arguments).eval().requires_grad_(False)  # torch multiplies otherwise where weights need none
    scheduler = scheduler or DDPMScheduler()
    if bare:
        unet.save_pretrained(folder)
        scheduler.save_pretrained(folder)
    else:
        DDPMPipeline(unet, scheduler).save_pretrained(folder)
    return unet


@torch.no_grad()
def bottleneck(unet: UNet2DModel, x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    handle = unet.mid_block.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    unet(x, steps)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("bare", [False, True])
def test_latents_are_the_bottleneck_of_the_whole_model(tmp_path: Path, style: str, bare: bool) -> None:
    unet = make(tmp_path / "model", STYLES[style], bare=bare)
    import_unet(tmp_path / "model").save(tmp_path / "prior", dtype=torch.float32)
    prior = UNetPrior.load(tmp_path / "prior")
    guide, steps = torch.rand(2, 3, 16, 16), [0, 600]
    bars = DDPMScheduler().alphas_cumprod.double()
    noisy = torch.cat([add_noise(guide * 2 - 1, fixed_noise(0, step, (3, 16, 16)), bars[step]) for step in steps])
    expected = bottleneck(unet, noisy, torch.tensor([0, 0, 600, 600]))
    assert torch.equal(prior._bottleneck(noisy, torch.tensor([0, 0, 600, 600])), expected)
    torch.testing.assert_close(prior.encode(guide, steps).flatten(0, 1), expected, rtol=1e-4, atol=1e-5)


def test_old_names_of_attention_weights_are_understood(tmp_path: Path) -> None:
    unet = make(tmp_path, CHURCH, bare=True)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    for ours, theirs in names.items():
        state = {key.replace(ours, theirs): value for key, value in state.items()}
    assert any("proj_attn" in key for key in state)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(state, tmp_path / "diffusion_pytorch_model.bin")
    x, steps = torch.randn(1, 3, 16, 16), torch.tensor([5])
    assert torch.equal(import_unet(tmp_path)._bottleneck(x, steps), bottleneck(unet, x, steps))


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_the_betas_of_the_scheduler_are_honoured(tmp_path: Path, schedule: str) -> None:
    scheduler = DDIMScheduler(beta_schedule=schedule, beta_start=3e-4, beta_end=0.01, prediction_type="v_prediction")
    make(tmp_path, PLAIN, scheduler)
    torch.testing.assert_close(
        import_unet(tmp_path)._alpha_bars.float(), scheduler.alphas_cumprod, rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta_schedule": "sigmoid"}, "beta_schedule of linear"),
        ({"beta_schedule": None}, "its DDPMScheduler cannot be followed"),
        ({"num_train_timesteps": 4000}, "num_train_timesteps of 1000"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas of null"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr of false"),
    ],
)
def test_a_scheduler_that_cannot_be_followed_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    make(tmp_path, PLAIN)
    edit(tmp_path / "scheduler" / "scheduler_config.json", changes)
    with pytest.raises(ModelError, match=message):
        import_unet(tmp_path)


def edit(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 4}, "3 input channels"),
        ({"num_class_embeds": 10}, "one conditioned on classes"),
        ({"time_embedding_type": "fourier"}, "noise levels"),
        ({"sample_size": None}, "give guide_size"),
        ({"sample_size": (16, 32)}, "give guide_size"),
        ({"sample_size": 15}, "not a multiple"),
    ],
)
def test_a_unet_that_cannot_be_a_prior_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    make(tmp_path, PLAIN | changes)
    with pytest.raises(ModelError, match=message):
        import_unet(tmp_path)


def test_the_guide_size_can_be_chosen(tmp_path: Path) -> None:
    make(tmp_path, PLAIN | {"sample_size": None})
    assert import_unet(tmp_path, guide_size=48).spec.grid == 24


def test_another_model_is_refused(tmp_path: Path) -> None:
    make(tmp_path, PLAIN)
    edit(tmp_path / "unet" / "config.json", {"_class_name": "UNet2DConditionModel"})
    with pytest.raises(ModelError, match="expected a UNet2DModel, got a UNet2DConditionModel"):
        import_unet(tmp_path)


@pytest.mark.parametrize("name", ["unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("content", [None, "{not json"])
def test_a_missing_or_damaged_configuration_is_refused(tmp_path: Path, name: str, content: str | None) -> None:
    make(tmp_path, PLAIN)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=Path(name).name):
        import_unet(tmp_path)


@pytest.mark.parametrize("kind", ["missing", "truncated", "incomplete", "of another shape"])
def test_damaged_weights_are_refused(tmp_path: Path, kind: str) -> None:
    make(tmp_path, PLAIN)
    path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:3000])
    elif kind == "incomplete":
        save_file({key: value for key, value in state.items() if not key.startswith("mid_block")}, path)
    else:
        save_file(state | {"conv_in.weight": torch.zeros(4, 3, 3, 3)}, path)
    with pytest.raises(ModelError, match="its U-Net"):
        import_unet(tmp_path)


def test_a_name_that_is_neither_folder_nor_hub_id_is_refused() -> None:
    with pytest.raises(ModelError, match="neither a folder nor a model on the hub"):
        import_unet("no/such/model/anywhere")


def test_the_hub_out_of_reach_is_said_aloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        import_unet("google/ddpm-church-256")
