"""The training loop, one for the prior and the dehazing network.

Progress is counted in images. The batch of a step is a function of (seed, step), so the same command resumes
where a run was cut off.
"""

import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from difflid.errors import TrainingError
from difflid.training.config import LoopConfig, dump_config
from difflid.training.state import TrainingState, update_average, written

__all__ = ["Objective", "learning_rate", "train", "write_resolved"]

log = logging.getLogger(__name__)
STATS = "stats.jsonl"
STATS_EVERY = 20  # steps between lines of stats.jsonl


class Objective(Protocol):
    """What is trained, on what, and how well it does."""

    model: nn.Module

    def batches(self) -> Dataset[Any]:
        """Return a map-style data set: item ``step`` is the whole batch of that step."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the scalar loss of one batch."""

    def notes(self) -> dict[str, float]:
        """Return what else is worth a place beside the loss."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measure a model on the validation split."""

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the usable result of the training into ``folder``."""


def train(objective: Objective, config: LoopConfig) -> Path:
    """Train until ``config.images`` images were seen; return the folder of the exported result."""
    run = Path(config.run)
    run.mkdir(parents=True, exist_ok=True)
    device = torch.device(config.device)
    model = objective.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = TrainingState(model, _optimizer(model, config))
    if state.resume(run):
        _forget_after(run / STATS, state.images)
        log.info("resumed %s at %d images", run, state.images)
    forward = cast(nn.Module, torch.compile(model, dynamic=False)) if config.compile else model
    started, first = time.monotonic(), state.images
    for batch in _stream(objective, config, state.images // config.batch):
        loss = _step(objective, forward, state, batch, config)
        done = state.images >= config.images
        if done or _passed(STATS_EVERY * config.batch, state.images, config.batch):
            rate = (state.images - first) / (time.monotonic() - started)
            values = {"images": state.images, "loss": loss.item(), "images_per_second": round(rate, 2)}
            _note(run, {**values, **objective.notes()})
        if done or _passed(config.validate_every, state.images, config.batch):
            _note(run, {"images": state.images, **objective.validate(state.average)})
            with written(run / "result"):
                objective.export(state.average, run / "result")
        if done or _passed(config.checkpoint_every, state.images, config.batch):
            state.save(run)
    return run / "result"


def _optimizer(model: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=config.rate, weight_decay=config.weight_decay, fused=True)


def _stream(objective: Objective, config: LoopConfig, first: int) -> Iterator[Any]:
    steps = range(first, math.ceil(config.images / config.batch))
    workers = {"num_workers": config.workers, "prefetch_factor": 4} if config.workers else {}
    return iter(DataLoader(objective.batches(), batch_size=None, sampler=steps, **workers))  # type: ignore[arg-type]


def _step(objective: Objective, model: nn.Module, state: TrainingState, batch: Any, config: LoopConfig) -> Tensor:
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(state.images, config)
    with torch.autocast(config.device.split(":")[0], torch.bfloat16, enabled=config.bfloat16):
        loss = objective.loss(model, batch)
    if not torch.isfinite(loss):
        raise _not_finite("loss", loss, state, config)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    if not torch.isfinite(norm):
        raise _not_finite("norm of the gradient", norm, state, config)
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.images += config.batch
    update_average(state.average, state.model, images=state.images, batch=config.batch, half_life=config.ema)
    return loss.detach()


def _not_finite(what: str, value: Tensor, state: TrainingState, config: LoopConfig) -> TrainingError:
    step = state.images // config.batch
    return TrainingError(
        f"the {what} is {value.item()} after {state.images} images, at step {step} of seed {config.seed}; the last "
        f"checkpoint in {config.run} is kept. Lower loop.rate, or set loop.bfloat16 = false, and resume"
    )


def learning_rate(images: int, config: LoopConfig) -> float:
    """Rate after ``images`` images: linear warm-up, then a cosine down to ``rate_end``."""
    warmup = min(1.0, (images + config.batch) / max(config.warmup, 1))
    cosine = 0.5 * (1 + math.cos(math.pi * min(images / config.images, 1.0)))
    return config.rate * warmup * (config.rate_end + (1 - config.rate_end) * cosine)


def _passed(every: int, images: int, batch: int) -> bool:
    return images // every > (images - batch) // every


def _note(run: Path, values: dict[str, Any]) -> None:
    with written(run / STATS), (run / STATS).open("a") as stream:
        stream.write(json.dumps(values) + "\n")
    log.info("%s", ", ".join(f"{key} {value:.5g}" for key, value in values.items()))


def _forget_after(stats: Path, images: int) -> None:
    """Leave out what was noted after the checkpoint: it will be noted again."""
    lines = stats.read_text().splitlines() if stats.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["images"] <= images]
    part = stats.with_name(f"{stats.name}.part")
    with written(stats, part):
        part.write_text("".join(f"{line}\n" for line in kept))
        part.replace(stats)


def write_resolved(config: Any, run: Path) -> None:
    """Write the resolved configuration beside the checkpoint."""
    with written(run / "config.json"):
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.json").write_text(dump_config(config) + "\n")
