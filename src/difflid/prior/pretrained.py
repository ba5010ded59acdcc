"""Any pixel-space ``UNet2DModel`` of `diffusers`, from a folder or from the Hugging Face hub, as a prior.

Both layouts are understood: a pipeline (``unet/config.json``, ``scheduler/scheduler_config.json``) and a bare model
(``config.json``, ``scheduler_config.json``). How noise is predicted or sampled has no part in reading latents, so of
the scheduler only the betas matter.
"""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError

from difflid.errors import ConfigError, ModelError
from difflid.prior.latents import TIMESTEPS
from difflid.prior.unet import UNetPrior, UNetPriorConfig

__all__ = ["import_unet"]

_SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}  # theirs: ours


def import_unet(source: str | Path, *, guide_size: int | None = None) -> UNetPrior:
    """Read the encoder half of a ``UNet2DModel`` and the betas of its scheduler.

    Args:
        source: A folder, or the id of a model on the hub.
        guide_size: Side of the guide in pixels; None: the ``sample_size`` that the U-Net states.

    Raises:
        ModelError: something is missing or damaged, is no ``UNet2DModel``, or cannot serve as a prior.
    """
    subfolder, settings = _read_json(source, "config.json", "unet")
    if settings.get("_class_name") != "UNet2DModel":
        raise ModelError(f"{source}: expected a UNet2DModel, got a {settings.get('_class_name', 'model of no class')}")
    schedule = _read_schedule(source)
    unet = _read_unet(source, subfolder)
    size = guide_size or unet.config.sample_size
    if not isinstance(size, int):
        raise ModelError(f"{source}: its sample_size {size} is not one side in pixels; give guide_size")
    arguments = {key: value for key, value in unet.config.items() if not key.startswith("_")}
    try:
        return UNetPrior.from_unet(unet, UNetPriorConfig(size, arguments, **schedule))
    except (ConfigError, ModelError) as error:
        raise ModelError(f"{source} cannot serve as a prior: {error}") from error


def _read_json(source: str | Path, name: str, subfolder: str) -> tuple[str, dict[str, Any]]:
    """Find ``name`` in the subfolder of a pipeline or at the root; return the subfolder it is in and its content."""
    for place in (subfolder, ""):
        path = _find(source, f"{place}/{name}" if place else name)
        if path is not None:
            try:
                return place, dict(json.loads(path.read_text()))
            except ValueError as error:
                raise ModelError(f"{path} is not a configuration: {error}") from error
    raise ModelError(f"{source} has neither {subfolder}/{name} nor {name}: expected a UNet2DModel and its scheduler")


def _find(source: str | Path, name: str) -> Path | None:
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    try:
        return Path(hf_hub_download(str(source), name))
    except LocalEntryNotFoundError as error:  # no connection, which is not the same as no such file
        raise ModelError(f"{source} is not a folder, and the hub cannot be reached: {error}") from error
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(f"{source} is neither a folder nor a model on the hub: {error}") from error


def _read_unet(source: str | Path, subfolder: str) -> Any:
    try:
        unet, report = UNet2DModel.from_pretrained(  # type: ignore[no-untyped-call]
            source,
            subfolder=subfolder or None,
            low_cpu_mem_usage=False,
            output_loading_info=True,
            torch_dtype=torch.float32,
        )
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError, pickle.UnpicklingError) as error:
        raise ModelError(f"{source}: its U-Net cannot be read: {error}") from error
    if report["missing_keys"]:
        raise ModelError(f"{source}: its U-Net lacks {', '.join(sorted(report['missing_keys'])[:4])}, ...")
    return unet


def _read_schedule(source: str | Path) -> dict[str, Any]:
    """Return the fields of :class:`UNetPriorConfig` that say what the scheduler says."""
    _, settings = _read_json(source, "scheduler_config.json", "scheduler")
    _check_scheduler(source, settings)
    schedule = _SCHEDULES[settings["beta_schedule"]]
    return {"schedule": schedule, "beta_start": settings["beta_start"], "beta_end": settings["beta_end"]}


def _check_scheduler(source: str | Path, settings: Mapping[str, Any]) -> None:
    demands = {
        f"beta_schedule of {', '.join(_SCHEDULES)}": settings.get("beta_schedule") in _SCHEDULES,
        "beta_start and beta_end": {"beta_start", "beta_end"} <= set(settings),
        f"num_train_timesteps of {TIMESTEPS}": settings.get("num_train_timesteps") == TIMESTEPS,
        "trained_betas of null": settings.get("trained_betas") is None,
        "rescale_betas_zero_snr of false": not settings.get("rescale_betas_zero_snr"),
    }
    unmet = [demand for demand, met in demands.items() if not met]
    if unmet:
        kind = settings.get("_class_name", "scheduler")
        raise ModelError(f"{source}: its {kind} cannot be followed; expected {'; '.join(unmet)}, got {dict(settings)}")
