"""The training loop, one for the prior and the dehazing network, in one process or several.

Progress is counted in images. Image number n is a function of (seed, n), whoever computes it: a step's images are
dealt out to the processes, and the same command resumes where a run was cut off.
"""

import json
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from difflid.errors import ConfigError, DataError, TrainingError, listed
from difflid.files import whole
from difflid.training.config import LoopConfig, changes, dump_config, dumped_config, may_change
from difflid.training.journal import Journal, Sheet
from difflid.training.state import CHECKPOINT, TrainingState, update_average, written

__all__ = ["Objective", "has_bfloat16", "learning_rate", "open_run", "train"]

log = logging.getLogger(__name__)
CONFIG, PICTURES, RESULT = "config.json", "pictures.json", "result"
PATIENCE = timedelta(hours=4)  # of the other processes while the first one validates; NCCL's own is 10 minutes
STATS_EVERY = 20  # steps between lines of stats.jsonl


class Objective(Protocol):
    """What is trained, on what, and how well it does."""

    model: nn.Module

    def pictures(self) -> list[str]:
        """Name what is trained on; image number n is a function of what is named here, in this order."""

    def batches(self, size: int) -> Dataset[Any]:
        """Return a map-style data set: item ``i`` is the whole batch of the images i size ... (i + 1) size - 1."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the scalar loss of one batch, a mean over its images."""

    def notes(self) -> dict[str, float]:
        """Return counts worth a place beside the loss; the same keys always."""

    def validate(self, model: nn.Module, sheet: Sheet) -> dict[str, float]:
        """Measure a model on the validation split; put a few pictures on the sheet."""

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the usable result of the training into ``folder``."""


def open_run(config: Any, *, parts_rest: bool = False) -> Accelerator:
    """Join the processes of a training and write its resolved configuration into the folder of the run.

    Args:
        config: a recipe, whose field ``loop`` is a LoopConfig.
        parts_rest: there are steps to which not all weights contribute.

    Raises:
        ConfigError: the device is not there, the batch cannot be dealt out evenly, or the run began with another
            recipe in more than what may change (`difflid.training.config.CHANGEABLE`), or one that is not known.
        TrainingError: the folder cannot be written.
    """
    loop: LoopConfig = config.loop
    patience = InitProcessGroupKwargs(timeout=PATIENCE)
    exchange = DistributedDataParallelKwargs(find_unused_parameters=parts_rest)
    with _settings_of_the_recipe_alone():
        accelerator = Accelerator(cpu=loop.device == "cpu", kwargs_handlers=[patience, exchange])
    if accelerator.device.type != loop.device:
        raise ConfigError(
            f"loop.device is {loop.device!r}, expected {accelerator.device.type!r}, which is here, or cpu"
        )
    shares = accelerator.num_processes * loop.accumulate
    if loop.batch % shares:
        raise ConfigError(f"loop.batch {loop.batch} is no multiple of {shares}, processes times loop.accumulate")
    if accelerator.is_main_process:
        run = Path(loop.run)
        _refuse_other_recipe(run, config)
        with written(run / CONFIG):
            run.mkdir(parents=True, exist_ok=True)
            with whole(run / CONFIG) as part:
                part.write_text(dump_config(config) + "\n")
    return accelerator


@contextmanager
def _settings_of_the_recipe_alone() -> Iterator[None]:
    """Hide the variables from which Accelerate takes precision, accumulation, compiler and device."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("ACCELERATE_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _refuse_other_recipe(run: Path, config: Any) -> None:
    """Refuse what would make a run that has begun another one, say what else is changed."""
    if not (run / CHECKPOINT).exists():
        return
    try:
        changed = changes(dumped_config(type(config), run / CONFIG), config)
    except ConfigError as error:
        raise ConfigError(
            f"{run} has a checkpoint, but with which recipe it began is not known: {error}. Put the file back "
            "(--dry-run prints that of a recipe), or name another loop.run to begin anew"
        ) from error
    refused = {key: values for key, values in changed.items() if not may_change(key)}
    if refused:
        differs = "; ".join(f"{key} {before!r}, got {after!r}" for key, (before, after) in refused.items())
        raise ConfigError(f"{run} began with {differs}. Put that back to go on, or name another loop.run to begin anew")
    for key, (before, after) in changed.items():
        log.info("changed: %s was %r, is %r", key, before, after)


def train(
    objective: Objective, config: LoopConfig, accelerator: Accelerator, progress: Callable[[int], None] | None = None
) -> Path:
    """Train until ``config.images`` images were seen; return the folder of the exported result.

    ``progress`` is told the images seen, at the start and after each step.
    """
    run, progress = Path(config.run), progress or (lambda _: None)
    if config.bfloat16 and not has_bfloat16(accelerator.device):
        log.info("float32 throughout: this %s has no bfloat16 of its own", accelerator.device.type)
        config = replace(config, bfloat16=False)
    model = objective.model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    _let_learn(model, config.learn)
    state = TrainingState(model, _optimizer(model, config))
    resumed, first_process = state.resume(run), accelerator.is_main_process
    if resumed:
        log.info("resumed %s at %d images", run, state.images)
    if first_process:
        _keep_to(objective.pictures(), run, resumed=resumed)
    _refuse_apart(state.images, run, accelerator)
    compiled = cast(nn.Module, torch.compile(model, dynamic=False)) if config.compile else model
    forward = accelerator.prepare_model(compiled)
    batches = _stream(objective, config, accelerator, state.images // config.batch)
    journal = Journal(run, images=state.images, tensorboard=config.tensorboard) if first_process else None
    started, first = time.monotonic(), state.images
    progress(state.images)
    while state.images < config.images:
        loss, norm = _step(objective, forward, state, batches, config, accelerator)
        done = state.images >= config.images
        intervals = STATS_EVERY * config.batch, config.validate_every, config.checkpoint_every
        told, validated, saved = (done or _passed(every, state.images, config.batch) for every in intervals)
        if (told or validated or saved) and not torch.isfinite(norm):  # asking a GPU means to wait for it
            raise _not_finite(norm, loss, state, config)
        if told:
            rate = (state.images - first) / (time.monotonic() - started)
            values = {"images": state.images, "loss": _mean(loss, accelerator), "images_per_second": round(rate, 2)}
            values |= _total(objective.notes(), accelerator)
            if journal:
                journal.note(values)
        if journal and validated:
            _validate(objective, state, run, journal)
        if journal and saved:
            state.save(run)
        progress(state.images)
    if journal:
        if not (run / RESULT).exists():
            _export(objective, state, run)
        journal.close()
    accelerator.wait_for_everyone()
    return run / RESULT


def _keep_to(pictures: list[str], run: Path, *, resumed: bool) -> None:
    """Note what a run is trained on; when it goes on, refuse anything else."""
    file = run / PICTURES
    try:
        before = json.loads(file.read_text()) if resumed and file.exists() else pictures
    except (OSError, ValueError) as error:
        raise TrainingError(f"cannot read {file}: {error}; remove it to go on with any pictures") from error
    if before != pictures:
        gone, added = Counter(before) - Counter(pictures), Counter(pictures) - Counter(before)
        changed = [f"{what} {listed(sorted(names))}" for what, names in (("gone", gone), ("added", added)) if names]
        raise DataError(
            f"{run} began with other pictures to train on: {'; '.join(changed) or 'in another order'}. "
            "Put them back to go on, or name another loop.run to begin anew"
        )
    with written(file), whole(file) as part:
        part.write_text(json.dumps(pictures, indent=0) + "\n")


def _refuse_apart(images: int, run: Path, accelerator: Accelerator) -> None:
    """Refuse processes that did not resume from one checkpoint, as machines with folders of their own would."""
    everywhere = accelerator.gather(torch.tensor([images], device=accelerator.device)).tolist()
    if len(set(everywhere)) > 1:
        raise TrainingError(
            f"the processes resumed at {everywhere} images: {run} must be one folder, which all machines share"
        )


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether the device computes bfloat16 itself; where it is emulated, it is far slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type != "cpu" or bool(torch.cpu._is_avx512_bf16_supported())


def _validate(objective: Objective, state: TrainingState, run: Path, journal: Journal) -> None:
    sheet = Sheet()
    journal.note({"images": state.images, **objective.validate(state.average, sheet)})
    journal.show(sheet, state.images)
    _export(objective, state, run)


def _export(objective: Objective, state: TrainingState, run: Path) -> None:
    with written(run / RESULT):
        objective.export(state.average, run / RESULT)


def _let_learn(model: nn.Module, beginnings: Sequence[str]) -> None:
    """Let all weights rest but those whose names begin so; none given: all learn."""
    names = [name for name, _ in model.named_parameters()]
    idle = [start for start in beginnings if not any(name.startswith(start) for name in names)]
    if idle:
        known = sorted({name.partition(".")[0] for name in names})
        raise ConfigError(f"loop.learn: no weight is named {idle[0]}...; known beginnings: {', '.join(known)}")
    for name, weight in model.named_parameters():
        weight.requires_grad_(not beginnings or name.startswith(tuple(beginnings)))


def _optimizer(model: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=config.rate, weight_decay=config.weight_decay, fused=True)


def _stream(objective: Objective, config: LoopConfig, accelerator: Accelerator, first: int) -> Iterator[Any]:
    """Deal out: of each step, this process gets ``config.accumulate`` of the parts."""
    shares = accelerator.num_processes * config.accumulate
    last = math.ceil(config.images / config.batch)
    parts = range(first * shares + accelerator.process_index, last * shares, accelerator.num_processes)
    workers = {"num_workers": config.workers, "prefetch_factor": 4} if config.workers else {}
    batches, pinned = _Told(objective.batches(config.batch // shares)), accelerator.device.type == "cuda"
    for batch in DataLoader(batches, batch_size=None, sampler=parts, pin_memory=pinned, **workers):  # type: ignore[arg-type]
        if isinstance(batch, DataError):
            raise batch
        yield batch


@dataclass(frozen=True)
class _Told(Dataset[Any]):
    """Give an error as an item: raised in a worker, its message would become the worker's traceback."""

    batches: Dataset[Any]

    def __getitem__(self, index: int) -> Any:
        try:
            return self.batches[index]
        except DataError as error:
            return error


def _step(
    objective: Objective,
    model: nn.Module,
    state: TrainingState,
    batches: Iterator[Any],
    config: LoopConfig,
    accelerator: Accelerator,
) -> tuple[Tensor, Tensor]:
    """Move the weights once; return the mean loss of this process and the norm of the gradient."""
    for group in state.optimizer.param_groups:
        group["lr"], group["weight_decay"] = learning_rate(state.images, config), config.weight_decay
    total = torch.zeros((), device=accelerator.device)
    for part in range(config.accumulate):
        alone = part < config.accumulate - 1  # the gradients of all processes meet in the last part
        with accelerator.no_sync(model) if alone else nullcontext():
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=config.bfloat16):
                loss = objective.loss(model, next(batches)) / config.accumulate
            accelerator.backward(loss)
        total += loss.detach()
    norm = cast(Tensor, accelerator.clip_grad_norm_(model.parameters(), config.clip))
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.images += config.batch
    update_average(state.average, state.model, images=state.images, batch=config.batch, half_life=config.ema)
    return total, norm


def _mean(value: Tensor, accelerator: Accelerator) -> float:
    return float(accelerator.reduce(value, "mean"))


def _total(counts: dict[str, float], accelerator: Accelerator) -> dict[str, float]:
    """Add up the counts of all processes, leave out zeros."""
    if not counts:
        return {}
    values = accelerator.reduce(torch.tensor(list(counts.values()), device=accelerator.device), "sum")
    return {name: value for name, value in zip(counts, values.tolist(), strict=True) if value}


def _not_finite(norm: Tensor, loss: Tensor, state: TrainingState, config: LoopConfig) -> TrainingError:
    return TrainingError(
        f"the norm of the gradient is {norm} and the loss {loss.item()} after {state.images} images of seed "
        f"{config.seed}, since at most {STATS_EVERY} steps; the last checkpoint in {config.run} is kept. "
        f"Lower loop.rate{', or set loop.bfloat16 = false,' if config.bfloat16 else ''} and resume"
    )


def learning_rate(images: int, config: LoopConfig) -> float:
    """Rate after ``images`` images: linear warm-up, then a cosine down to ``rate_end``."""
    warmup = min(1.0, (images + config.batch) / max(config.warmup, 1))
    cosine = 0.5 * (1 + math.cos(math.pi * min(images / config.images, 1.0)))
    return config.rate * warmup * (config.rate_end + (1 - config.rate_end) * cosine)


def _passed(every: int, images: int, batch: int) -> bool:
    return images // every > (images - batch) // every
