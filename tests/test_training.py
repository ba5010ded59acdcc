import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DynamoBackend
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file
from tiny import TINY_UNET, tiny_prior

from difflid.cli import main
from difflid.data.photos import photo_files, split_photos
from difflid.data.real_pairs import PairSet
from difflid.dehazer import Dehazer
from difflid.errors import ConfigError, DataError, ModelError, TrainingError
from difflid.prior import UNetPrior
from difflid.training.config import LoopConfig, read_config
from difflid.training.journal import Sheet
from difflid.training.loop import has_bfloat16, learning_rate, open_run
from difflid.training.prior import UP_PATH, PriorObjective, PriorTrainingConfig, load_whole_unet, train_prior
from difflid.training.restoration import (
    NetworkRecipe,
    RestorationObjective,
    RestorationTrainingConfig,
    train_restoration,
)

TINY_RECIPE = NetworkRecipe((8, 8), (1, 0), (1, 1), (0, 2), guide_width=4, guide_middle=1)
SETS = {"a": PairSet("a", "dense-haze", ("01..45",))}
RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(40):  # enough for a held-out one
        noise(folder / f"{index}.png", index)
    return folder


def noise(path: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)).save(path)


@pytest.fixture
def loop(tmp_path: Path) -> LoopConfig:
    every = {"checkpoint_every": 8, "validate_every": 16}
    return LoopConfig(str(tmp_path / "run"), images=16, batch=4, warmup=4, workers=0, bfloat16=False, **every)


def prior_config(photos: Path, loop: LoopConfig) -> PriorTrainingConfig:
    return PriorTrainingConfig(str(photos), 16, loop, unet=dict(TINY_UNET))


def restoration_config(photos: Path, loop: LoopConfig, tmp_path: Path) -> RestorationTrainingConfig:
    tiny_prior().save(tmp_path / "prior")
    return RestorationTrainingConfig(
        str(tmp_path / "prior"), loop, str(photos), network=TINY_RECIPE, crop=16, validation_photos=1
    )


def test_a_trained_prior_gives_latents(photos: Path, loop: LoopConfig) -> None:
    prior = UNetPrior.load(train_prior(prior_config(photos, loop)))
    assert prior.encode(torch.rand(1, 3, 16, 16), (0, 500)).shape == (2, 1, 8, 8, 8)
    stats = [json.loads(line) for line in (Path(loop.run) / "stats.jsonl").read_text().splitlines()]
    assert any("denoised_100" in line for line in stats)
    assert any("loss" in line for line in stats)
    assert [path.name for path in (Path(loop.run) / "validation").iterdir()] == ["00000016.jpg"]


def test_the_up_path_of_a_prior_learns_alone_and_makes_it_whole_again(photos: Path, loop: LoopConfig) -> None:
    first = train_prior(prior_config(photos, loop))
    up_path = first / UP_PATH
    again = replace(
        prior_config(photos, replace(loop, run=f"{loop.run}2", learn=("up_blocks", "conv_norm_out", "conv_out"))),
        start=str(first),
        unet={},
    )
    second = train_prior(again)
    kept, encoder = UNetPrior.load(first).state_dict(), UNetPrior.load(second).state_dict()
    assert all(torch.equal(kept[key].half(), encoder[key].half()) for key in kept)
    assert not torch.equal(load_file(up_path)["conv_out.weight"], load_file(second / UP_PATH)["conv_out.weight"])
    whole = load_whole_unet(first, up_path)
    goes_on = PriorObjective(replace(again, up_path=str(up_path))).model.state_dict()
    assert all(torch.equal(value, goes_on[key]) for key, value in whole.state_dict().items())


def test_a_start_that_does_not_fit_is_refused(photos: Path, loop: LoopConfig, tmp_path: Path) -> None:
    config = prior_config(photos, loop)
    with pytest.raises(ConfigError, match="name its folder in start"):
        replace(config, up_path="up.safetensors")
    with pytest.raises(ConfigError, match="one of unet and start"):
        replace(config, start=str(tmp_path / "prior"))
    with pytest.raises(ConfigError, match="one of unet and start"):
        replace(config, unet={})
    tiny_prior().save(tmp_path / "prior")
    with pytest.raises(ModelError, match="not the up path"):
        load_whole_unet(tmp_path / "prior", tmp_path / "prior" / "model.safetensors")


def test_a_trained_network_is_a_model(photos: Path, loop: LoopConfig, tmp_path: Path) -> None:
    dehazer = Dehazer.from_pretrained(train_restoration(restoration_config(photos, loop, tmp_path)))
    assert dehazer(torch.rand(3, 20, 20)).shape == (3, 20, 20)


def test_killed_and_resumed_equals_uninterrupted(photos: Path, loop: LoopConfig, tmp_path: Path) -> None:
    whole = restoration_config(photos, replace(loop, images=48), tmp_path)
    train_restoration(whole)
    parted = replace(whole, loop=replace(whole.loop, run=str(tmp_path / "parted")))
    checkpoint = tmp_path / "parted" / "checkpoint.pt"
    (process,) = start_training(tmp_path, parted)
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert torch.load(checkpoint, weights_only=True)["images"] < 48
    assert CliRunner().invoke(main, ["train", str(tmp_path / "0.toml")]).exit_code == 0
    assert model_files(parted) == model_files(whole)
    assert losses(parted) == losses(whole)


def test_two_processes_train_as_one(photos: Path, loop: LoopConfig, tmp_path: Path) -> None:
    one = restoration_config(photos, loop, tmp_path)
    two = replace(one, loop=replace(loop, run=str(tmp_path / "two")))
    processes = start_training(tmp_path, two, two)
    train_restoration(one)
    assert [process.wait() for process in processes] == [0, 0]
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert_same_weights(two, one)


@pytest.mark.slow
def test_machines_without_a_common_folder_are_refused(
    photos: Path, loop: LoopConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = restoration_config(photos, replace(loop, images=8), tmp_path)
    train_restoration(one)
    other = replace(one, loop=replace(one.loop, run=str(tmp_path / "other")))
    processes = start_training(tmp_path, one, other)
    try:
        assert [process.wait(60) for process in processes] == [1, 1]
    finally:
        for process in processes:
            process.kill()
    assert "resumed at [8, 0] images" in capfd.readouterr().err


def test_parts_of_a_step_add_up_to_the_step(photos: Path, loop: LoopConfig, tmp_path: Path) -> None:
    one = restoration_config(photos, loop, tmp_path)
    parted = replace(one, loop=replace(loop, run=str(tmp_path / "parted"), accumulate=4))
    train_restoration(one)
    train_restoration(parted)
    assert losses(parted) == pytest.approx(losses(one), rel=1e-4)
    assert_same_weights(parted, one)


def test_a_batch_that_cannot_be_dealt_out_is_refused(photos: Path, loop: LoopConfig) -> None:
    with pytest.raises(ConfigError, match=r"loop\.batch 4 is no multiple of 3"):
        train_prior(prior_config(photos, replace(loop, accumulate=3)))


def begun(config: RestorationTrainingConfig) -> RestorationTrainingConfig:
    """Leave what a run leaves at its first checkpoint, as far as a check of its recipe goes."""
    open_run(config)
    (Path(config.loop.run) / "checkpoint.pt").touch()
    return config


@pytest.mark.parametrize(
    ("key", "was", "given"),
    [
        ("loop.seed", 0, 1),
        ("loop.batch", 4, 8),
        ("crop", 16, 24),
        ("prior", "prior", "another"),
        ("network.guide_width", 4, 8),
        ("losses", {"l1": 1.0}, {"l1": 1.0, "ssim": 0.1}),
        ("train_pairs.a.names", ("01..45",), ("01..50",)),
    ],
)
def test_a_run_that_has_begun_is_not_made_another(loop: LoopConfig, key: str, was: Any, given: Any) -> None:
    config = begun(RestorationTrainingConfig("prior", loop, "photos", crop=16, network=TINY_RECIPE, train_pairs=SETS))
    before = (Path(loop.run) / "config.json").read_bytes()
    with pytest.raises(ConfigError, match=re.escape(f"run began with {key} {was!r}, got {given!r}. Put")):
        open_run(changed(config, key.split("."), given))
    assert (Path(loop.run) / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("loop.images", 32),
        ("loop.rate", 1e-5),
        ("validation_photos", 3),
        ("validation_pairs", SETS),
        ("train_pairs.a.in_memory", False),
    ],
)
def test_a_run_that_has_begun_says_what_is_changed(
    loop: LoopConfig, key: str, given: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = begun(RestorationTrainingConfig("prior", loop, "photos", train_pairs=SETS))
    open_run(config)
    assert not caplog.text
    open_run(changed(config, key.split("."), given))
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"changed: {key} was")
    assert caplog.messages[0].endswith(f"is {given!r}")
    caplog.clear()
    open_run(changed(config, key.split("."), given))
    assert not caplog.text


def changed(config: Any, key: list[str], value: Any) -> Any:
    """Give a configuration with another value of ``key``."""
    name, *inner = key
    if isinstance(config, dict):
        return {**config, name: changed(config[name], inner, value)}
    return replace(config, **{name: changed(getattr(config, name), inner, value) if inner else value})


def test_a_run_of_before_a_key_was_there_goes_on(loop: LoopConfig, caplog: pytest.LogCaptureFixture) -> None:
    config = begun(RestorationTrainingConfig("prior", loop, "photos"))
    tree = json.loads((Path(loop.run) / "config.json").read_text())
    del tree["coarse"]
    (Path(loop.run) / "config.json").write_text(json.dumps(tree))
    open_run(config)
    assert not caplog.text


@pytest.mark.parametrize("left", [None, "{"])
def test_a_run_whose_recipe_is_not_known_does_not_go_on(loop: LoopConfig, left: str | None) -> None:
    config = begun(RestorationTrainingConfig("prior", loop, "photos"))
    file = Path(loop.run) / "config.json"
    file.unlink()
    if left:
        file.write_text(left)
    with pytest.raises(ConfigError, match=r"recipe it began is not known: cannot read .*config\.json.*--dry-run"):
        open_run(config)
    assert (file.read_text() if file.exists() else None) == left


def test_other_photographs_are_not_taken_for_those_that_a_run_began_with(
    photos: Path, loop: LoopConfig, tmp_path: Path
) -> None:
    config = restoration_config(photos, loop, tmp_path)
    longer = replace(config, loop=replace(loop, images=24))
    train_restoration(config)
    noise(photos / "new.png", 40)
    (photos / "3.png").unlink()
    with pytest.raises(DataError, match=r"other pictures.*: gone photos/3 \(1 in all\); added photos/new \(1 in all\)"):
        train_restoration(longer)
    noise(photos / "3.png", 3)
    (photos / "new.png").unlink()
    train_restoration(longer)
    (Path(loop.run) / "pictures.json").unlink()  # as before there was such a file
    train_restoration(replace(config, loop=replace(loop, images=28)))
    assert len(json.loads((Path(loop.run) / "pictures.json").read_text())) == len(split_photos(photo_files(photos))[0])


def test_a_prior_goes_on_with_the_photographs_that_it_began_with(photos: Path, loop: LoopConfig) -> None:
    train_prior(prior_config(photos, loop))
    noise(photos / "new.png", 40)
    with pytest.raises(DataError, match=r"added photos/new \(1 in all\)"):
        train_prior(prior_config(photos, replace(loop, images=24)))


def test_a_finished_run_has_its_result_again(photos: Path, loop: LoopConfig, tmp_path: Path) -> None:
    config = restoration_config(photos, loop, tmp_path)
    weights = train_restoration(config) / "model.safetensors"
    before = weights.read_bytes()
    shutil.rmtree(weights.parent)
    assert train_restoration(config) == weights.parent
    assert weights.read_bytes() == before


@pytest.mark.parametrize("count", [1, 8])
def test_too_few_photographs_to_hold_one_out_are_refused(
    photos: Path, loop: LoopConfig, tmp_path: Path, count: int
) -> None:
    held_out = split_photos(photo_files(photos))[1][0]
    for place, path in enumerate(photo_files(photos)):
        if path != held_out if count == 1 else place >= count or path == held_out:
            path.unlink()
    config = restoration_config(photos, loop, tmp_path)
    for train in (lambda: train_prior(prior_config(photos, loop)), lambda: train_restoration(config)):
        with pytest.raises(
            DataError, match=r"photos: one .* held out, expected at least 1 and others to train on, got \d of"
        ):
            train()
    unheld = replace(config, validation_photos=0)
    if count == 1:
        with pytest.raises(DataError, match="got 1 of 1"):
            train_restoration(unheld)
    else:
        assert (train_restoration(unheld) / "model.safetensors").exists()


def test_no_photographs_may_be_validated_on(photos: Path, loop: LoopConfig, tmp_path: Path) -> None:
    train_restoration(replace(restoration_config(photos, loop, tmp_path), validation_photos=0))
    stats = [json.loads(line) for line in (Path(loop.run) / "stats.jsonl").read_text().splitlines()]
    assert not any("clear" in line or "synthetic" in line for line in stats)


@pytest.fixture
def _first_accelerator() -> Iterator[None]:
    """Let Accelerate look at its variables, as it does once in a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("_first_accelerator")
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ACCELERATE_MIXED_PRECISION", "bf16"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4"),
        ("ACCELERATE_DYNAMO_BACKEND", "inductor"),
        ("ACCELERATE_TORCH_DEVICE", "meta"),
    ],
)
def test_the_recipe_alone_says_how_is_trained(
    loop: LoopConfig, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    accelerator = open_run(RestorationTrainingConfig("prior", loop, "photos"))
    assert os.environ[variable] == value
    assert accelerator.mixed_precision == "no"
    assert accelerator.gradient_accumulation_steps == 1
    assert accelerator.state.dynamo_plugin.backend == DynamoBackend.NO
    assert accelerator.device.type == "cpu"


def test_the_others_wait_for_the_validation(loop: LoopConfig) -> None:
    handler = open_run(RestorationTrainingConfig("prior", loop, "photos")).init_handler
    assert handler.timeout > timedelta(hours=1)


def test_a_device_that_is_not_there_is_refused(photos: Path, loop: LoopConfig) -> None:
    with pytest.raises(ConfigError, match=r"loop\.device is 'npu'"):
        train_prior(prior_config(photos, replace(loop, device="npu")))


def start_training(folder: Path, *configs: RestorationTrainingConfig) -> list[subprocess.Popen[bytes]]:
    """Give the command ``difflid train`` in a process for each, which know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    alone = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums depend on it, and another test may have set it
    together = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(len(configs)),
        "OMP_NUM_THREADS": "1",
    }
    processes = []
    for rank, config in enumerate(configs):
        toml = folder / f"{rank}.toml"
        toml.write_text("\n".join(toml_lines(asdict(config))))
        assert read_config(RestorationTrainingConfig, toml) == config
        command = [sys.executable, "-c", "from difflid.cli import main; main()", "train", str(toml)]
        place = {**together, "RANK": str(rank), "LOCAL_RANK": str(rank)} if len(configs) > 1 else alone
        processes.append(subprocess.Popen(command, env={**os.environ, **place}))
    return processes


def toml_lines(tree: dict[str, Any], table: str = "") -> list[str]:
    values = {key: value for key, value in tree.items() if value is not None and not isinstance(value, dict)}
    lines = [f"[{table}]"] * bool(table) + [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    for key, value in tree.items():
        lines += toml_lines(value, f"{table}.{key}".strip(".")) if isinstance(value, dict) else []
    return lines


def model_files(config: RestorationTrainingConfig) -> list[bytes]:
    result = Path(config.loop.run) / "result"
    return [(result / name).read_bytes() for name in ("config.json", "model.safetensors", "prior/model.safetensors")]


def losses(config: RestorationTrainingConfig) -> list[float]:
    stats = (Path(config.loop.run) / "stats.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, stats) if "loss" in line]


def assert_same_weights(config: RestorationTrainingConfig, other: RestorationTrainingConfig) -> None:
    """Equal up to the order in which floats are added; a step moves a weight by up to 4e-4."""
    one, two = (torch.load(Path(each.loop.run) / "checkpoint.pt", weights_only=True) for each in (config, other))
    off = [(one["model"][key] - value).abs() for key, value in two["model"].items()]
    assert torch.cat([each.flatten() for each in off]).mean() < 1e-6


def test_without_bfloat16_the_training_is_in_float32(
    photos: Path, loop: LoopConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    exact = restoration_config(photos, loop, tmp_path)
    mixed = replace(exact, loop=replace(loop, bfloat16=True, run=str(tmp_path / "mixed")))
    train_restoration(exact)
    assert "float32 throughout" not in caplog.text
    train_restoration(mixed)
    own = has_bfloat16(torch.device("cpu"))
    assert (losses(mixed) == losses(exact)) != own
    assert ("float32 throughout: this cpu has no bfloat16" in caplog.text) != own


def test_a_damaged_checkpoint_is_refused_and_kept(photos: Path, loop: LoopConfig) -> None:
    train_prior(prior_config(photos, loop))
    checkpoint = Path(loop.run) / "checkpoint.pt"
    damaged = checkpoint.read_bytes()[:1000]
    checkpoint.write_bytes(damaged)
    with pytest.raises(ModelError, match="cannot resume"):
        train_prior(prior_config(photos, loop))
    assert checkpoint.read_bytes() == damaged


def test_broken_photographs_are_all_named_before_training(photos: Path, loop: LoopConfig, tmp_path: Path) -> None:
    for name in ("3.png", "7.png"):
        (photos / name).write_bytes((photos / name).read_bytes()[:100])
    for train, config in (
        (train_prior, prior_config(photos, loop)),
        (train_restoration, restoration_config(photos, loop, tmp_path)),
    ):
        with pytest.raises(DataError, match=r"2 of \d+ cannot be used.*3\.png.*7\.png"):
            train(config)  # type: ignore[operator]


def test_the_damaged_photographs_that_the_message_leaves_out_are_in_the_log(
    photos: Path, loop: LoopConfig, caplog: pytest.LogCaptureFixture
) -> None:
    train_files, _ = split_photos(photo_files(photos))
    for path in train_files[:7]:
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"7 of \d+ cannot be used") as raised:
        train_prior(prior_config(photos, loop))
    told = f"{raised.value}{caplog.text}"
    assert all(told.count(f"{path}:") == 1 for path in train_files[:7])


def test_a_network_that_diverges_is_said_to(photos: Path, loop: LoopConfig, tmp_path: Path) -> None:
    wild = replace(loop, images=400, rate=1e30, warmup=0, validate_every=1000)
    with pytest.raises(TrainingError, match=r"the loss (nan|inf) after \d+ images of seed 0"):
        train_restoration(restoration_config(photos, wild, tmp_path))


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(photos: Path, loop: LoopConfig) -> None:
    run = Path(train_prior(prior_config(photos, loop))).parent
    kept = (run / "checkpoint.pt").read_bytes()
    wild = prior_config(photos, replace(loop, images=40, rate=1e30, warmup=0, checkpoint_every=1000))
    with pytest.raises(TrainingError, match=r"the loss (nan|inf) after \d+ images of seed 0"):
        train_prior(wild)
    assert (run / "checkpoint.pt").read_bytes() == kept


@pytest.mark.parametrize("due", ["checkpoint_every", "validate_every"])
def test_what_is_no_number_is_neither_saved_nor_scored(photos: Path, loop: LoopConfig, due: str) -> None:
    """Nothing else is due after the first step but this."""
    run = Path(train_prior(prior_config(photos, loop))).parent
    kept = {file: file.read_bytes() for file in (run / "checkpoint.pt", run / "result" / "model.safetensors")}
    wild = replace(loop, images=400, rate=1e30, warmup=0, checkpoint_every=1000, validate_every=1000)
    due_soon = replace(wild, **{due: loop.images + 2 * loop.batch})
    with pytest.raises(TrainingError, match=f"the loss (nan|inf) after {loop.images + 2 * loop.batch} images"):
        train_prior(prior_config(photos, due_soon))
    assert all(file.read_bytes() == before for file, before in kept.items())


def test_a_model_that_gives_no_numbers_is_not_scored(photos: Path, loop: LoopConfig, tmp_path: Path) -> None:
    train_prior(prior_config(photos, loop))
    objective = RestorationObjective(restoration_config(photos, loop, tmp_path))
    for weights in objective.model.parameters():
        torch.nn.init.constant_(weights, float("nan"))
    with pytest.raises(TrainingError, match="no numbers"):
        objective.validate(objective.model, Sheet())


@pytest.mark.parametrize("room", [0, 1000])
def test_a_full_disk_keeps_the_last_checkpoint(photos: Path, loop: LoopConfig, room: int) -> None:
    train_prior(prior_config(photos, loop))
    run = Path(loop.run)
    kept = (run / "checkpoint.pt").read_bytes()
    longer = prior_config(photos, replace(loop, images=24, validate_every=100))
    with no_file_larger_than(room), pytest.raises(TrainingError, match=f"cannot write {run}.*Make room"):
        train_prior(longer)
    assert (run / "checkpoint.pt").read_bytes() == kept
    assert not list(run.glob("*.part*"))
    train_prior(longer)
    assert torch.load(run / "checkpoint.pt", weights_only=True)["images"] == 24


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Let writes fail as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_photographs_is_named(loop: LoopConfig, tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=folder):
        train_prior(prior_config(tmp_path / folder, loop))


def test_the_rate_rises_then_falls(loop: LoopConfig) -> None:
    rates = [learning_rate(images, replace(loop, images=1000, warmup=100)) for images in range(0, 1001, 4)]
    peak = rates.index(max(rates))
    assert rates[0] < 0.05 * loop.rate
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0)


def test_overrides_and_their_types() -> None:
    path = RECIPES / "default-imagenet.toml"
    config = read_config(
        RestorationTrainingConfig, path, ["loop.rate=1", "loop.run=runs/x", "network.widths=[8, 16, 32]"]
    )
    assert (config.loop.rate, config.loop.run, config.network.widths) == (1.0, "runs/x", (8, 16, 32))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loop.bach=3", "unknown key loop.bach; did you mean loop.batch"),
        ("loop.batch=many", "loop.batch must be of type int, got 'many'"),
        ("crop", "an override is key=value"),
        ("loop=3", "loop is a table"),
        ("prior.side=3", "is a value, not a table"),
        ("start=3", "start must be of type str, got 3"),
        ("network.widths=[8, '16', 32]", r"network\.widths\[1\] must be of type int, got '16'"),
        ("loop.learn=[1]", r"loop\.learn\[0\] must be of type str, got 1"),
        ("loop.images=0", r"loop\.images must be at least 1, got 0"),
        ("loop.batch=0", r"loop\.batch must be at least 1, got 0"),
        ("loop.accumulate=-1", r"loop\.accumulate must be at least 1, got -1"),
        ("loop.checkpoint_every=0", r"loop\.checkpoint_every must be at least 1"),
        ("loop.validate_every=0", r"loop\.validate_every must be at least 1"),
        ("loop.workers=-1", r"loop\.workers must be at least 0, got -1"),
        ("loop.seed=-1", r"loop\.seed must be at least 0"),
        ("loop.rate=-1e-4", r"loop\.rate must be at least 0, got -0\.0001"),
        ("loop.rate=nan", r"loop\.rate must be at least 0, got nan"),
        ("loop.rate_end=2", r"loop\.rate_end must be from 0 to 1, got 2"),
        ("network.heads=[0, 0, 5]", r"network\.heads 5 does not divide network\.widths 128"),
        ("network.heads=[4]", r"network\.heads are of one length"),
        ("network.widths=[32, 64, 0]", r"network\.widths\[2\] must be at least 1"),
        ("content_timestep=1000", "content_timestep must be from 0 to 999, got 1000"),
        ("haze_timestep=-1", "haze_timestep must be from 0 to 999, got -1"),
        ("crop=0", "crop must be at least 1"),
        ("crop=100", "crop 100 is no multiple of 8"),
        ("crops=0", "crops must be at least 1"),
        ("pair_share=1.5", "pair_share must be from 0 to 1"),
        ("frame=0", "frame must be from 0.01 to 1"),
        ("validation_photos=-1", "validation_photos must be at least 0"),
        ("losses.l1=-1", r"losses\.l1 must be at least 0"),
        ("network={guide_smoke = true, guide_reviews = 1}", "guide_smoke has none"),
        ("network={guide_smoke = true, guide_glow = true}", "guide_smoke has none"),
        ("wholes=400032", r"wholes 400032 .* of loop\.images 400000"),
    ],
)
def test_a_wrong_override_says_what_is_wrong(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(RestorationTrainingConfig, RECIPES / "default-imagenet.toml", [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [("guide_size=0", "guide_size must be at least 1"), ("crop=0", "crop must be from 0.01 to 1, got 0")],
)
def test_a_wrong_setting_of_a_prior_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(PriorTrainingConfig, RECIPES / "prior-cpu.toml", [override])


def test_a_missing_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "short.toml").write_text("photos = 'x'\n[loop]\nrun = 'y'\nimages = 3\n")
    with pytest.raises(ConfigError, match="guide_size"):
        read_config(PriorTrainingConfig, tmp_path / "short.toml")
