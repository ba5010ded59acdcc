"""Training the network on real pairs, alone and mixed with photographs, and from the weights of a model."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny import tiny_dehazer, tiny_prior

from difflid.data.real_pairs import PairSet
from difflid.data.shards import write_shards
from difflid.dehazer import Dehazer, _read_config
from difflid.errors import ConfigError, DataError, ModelError
from difflid.network import DiffLI2D
from difflid.prior import LatentSpec
from difflid.training.config import LoopConfig
from difflid.training.journal import Sheet
from difflid.training.loop import open_run, train
from difflid.training.restoration import (
    NetworkRecipe,
    RestorationObjective,
    RestorationTrainingConfig,
    train_restoration,
)

TINY_RECIPE = NetworkRecipe((8, 8), (1, 0), (1, 1), (0, 2), guide_width=4, guide_middle=1)


@pytest.fixture
def config(tmp_path: Path) -> RestorationTrainingConfig:
    """Three pairs to train on, one to validate on, of a haze that halves the contrast."""
    rng = np.random.default_rng(0)
    for number in range(1, 5):
        clear = rng.integers(0, 256, (24, 32, 3), np.uint8)
        for folder, pixels in (("clear", clear), ("hazy", clear // 2 + 100)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number:02}.png")
    tiny_prior().save(tmp_path / "prior")
    loop = LoopConfig(str(tmp_path / "run"), images=8, batch=4, workers=0, bfloat16=False)
    return RestorationTrainingConfig(
        str(tmp_path / "prior"),
        loop,
        train_pairs={"halved": PairSet(str(tmp_path), names=("01..03",))},
        validation_pairs={"halved": PairSet(str(tmp_path), names=("04..04",))},
        network=TINY_RECIPE,
        crop=16,
        validation_photos=1,
    )


@pytest.mark.parametrize("name", ["images", "synthetic"])
def test_a_set_does_not_hide_a_number_of_its_name(config: RestorationTrainingConfig, name: str) -> None:
    with pytest.raises(ConfigError, match=f"validation_pairs.{name} would hide"):
        replace(config, validation_pairs={name: config.validation_pairs["halved"]})


def test_another_weight_decay_counts_when_a_run_goes_on(config: RestorationTrainingConfig) -> None:
    train_restoration(replace(config, loop=replace(config.loop, images=4)))
    train_restoration(replace(config, loop=replace(config.loop, weight_decay=0.5)))
    state = torch.load(Path(config.loop.run) / "checkpoint.pt", weights_only=True)
    assert state["optimizer"]["param_groups"][0]["weight_decay"] == 0.5


def with_photos(config: RestorationTrainingConfig, folder: Path) -> RestorationTrainingConfig:
    folder.mkdir()
    rng = np.random.default_rng(1)
    for index in range(40):
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(folder / f"{index}.png")
    return replace(config, photos=str(folder))


def saved_start(folder: Path) -> Dehazer:
    dehazer = tiny_dehazer()
    dehazer.save_pretrained(folder)
    return Dehazer.from_pretrained(folder)


def test_pairs_alone_train_a_model(config: RestorationTrainingConfig) -> None:
    dehazer = Dehazer.from_pretrained(train_restoration(config))
    assert dehazer(torch.rand(3, 20, 20)).shape == (3, 20, 20)
    stats = [json.loads(line) for line in (Path(config.loop.run) / "stats.jsonl").read_text().splitlines()]
    assert any("halved" in line for line in stats)
    assert not any("synthetic" in line for line in stats)


def test_shards_train_a_model_and_resume(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    write_shards(config.train_pairs["halved"].pairs(), tmp_path / "shards")
    packed = replace(config, train_pairs={}, shards=str(tmp_path / "shards"))
    train_restoration(packed)
    longer = replace(packed, loop=replace(config.loop, images=16))
    assert Dehazer.from_pretrained(train_restoration(longer))(torch.rand(3, 20, 20)).shape == (3, 20, 20)
    with pytest.raises(ConfigError, match="got both"):
        replace(packed, train_pairs=config.train_pairs)
    with pytest.raises(DataError, match=r"validation pairs show scenes .* in the shards.*: 03 \(1 in all\)"):
        RestorationObjective(replace(packed, validation_pairs={"x": PairSet(str(tmp_path), names=("03..04",))}))


def test_pairs_and_photographs_train_together(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    mixed = with_photos(config, tmp_path / "photos")
    train_restoration(mixed)
    stats = [json.loads(line) for line in (Path(config.loop.run) / "stats.jsonl").read_text().splitlines()]
    assert any({"halved", "synthetic", "clear"} <= set(line) for line in stats)


def test_the_loss_of_pairs_falls(config: RestorationTrainingConfig) -> None:
    torch.manual_seed(0)
    objective = RestorationObjective(config)
    batches = objective.batches(4)
    optimizer = torch.optim.Adam(objective.model.parameters(), 1e-2)
    before = objective.validate(objective.model, Sheet())["halved"]
    for step in range(30):
        optimizer.zero_grad()
        objective.loss(objective.model, batches[step]).backward()
        optimizer.step()
    assert objective.validate(objective.model, Sheet())["halved"] > before + 2


def test_unknown_physics_is_no_part_of_the_loss(config: RestorationTrainingConfig) -> None:
    objective = RestorationObjective(config)
    batch = objective.batches(4)[0]
    other = batch._replace(airlight=torch.rand_like(batch.airlight), transmission=torch.rand_like(batch.transmission))
    assert torch.equal(objective.loss(objective.model, batch), objective.loss(objective.model, other))
    known = other._replace(physics=torch.ones(4))
    assert not torch.equal(objective.loss(objective.model, batch), objective.loss(objective.model, known))


def test_training_starts_from_the_weights_of_a_model(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    start = saved_start(tmp_path / "start")
    objective = RestorationObjective(replace(config, start=str(tmp_path / "start")))
    weights = objective.model.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in start.network.state_dict().items())


def test_a_start_without_zoom_gives_one_with_zoom_what_it_knows(
    config: RestorationTrainingConfig, tmp_path: Path
) -> None:
    start = saved_start(tmp_path / "start")
    config = replace(config, start=str(tmp_path / "start"), network=replace(TINY_RECIPE, guide_zoom=4))
    objective = RestorationObjective(config)
    copy = objective.batches(4)[0].copy
    assert copy.shape == (4, 3, 64, 64)
    guide = torch.nn.functional.avg_pool2d(copy, 4)
    latents = start.prior.encode(guide, (0, 500))
    zoomed, plain = objective.model.condition(copy, *latents), start.network.condition(guide, *latents)
    torch.testing.assert_close(zoomed.haze, plain.haze)
    trained = Dehazer.from_pretrained(train_restoration(config))
    assert trained.network.guide.stem.weight[:, 3:].abs().max() > 0
    assert trained(torch.rand(3, 20, 20)).shape == (3, 20, 20)
    with pytest.raises(ModelError, match="guide_zoom"):
        RestorationObjective(
            replace(config, start=f"{config.loop.run}/result", network=replace(TINY_RECIPE, guide_zoom=2))
        )


def test_a_start_gives_the_parts_that_both_networks_have(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    start = saved_start(tmp_path / "start")
    guide_only = replace(
        TINY_RECIPE, widths=(), encoder_blocks=(), decoder_blocks=(), heads=(), guide_contrast=True, guide_smoke=True
    )
    config = replace(config, start=str(tmp_path / "start"), network=guide_only)
    weights, known = RestorationObjective(config).model.state_dict(), start.network.state_dict()
    assert torch.equal(weights["guide.stem.weight"], known["guide.stem.weight"])
    assert weights["coarse_haze.weight"].abs().max() == 0  # counts from the smoke
    assert not any(key.startswith(("stem", "decoder", "head")) for key in weights)
    trained = Dehazer.from_pretrained(train_restoration(config))
    assert trained(torch.rand(3, 20, 30)).shape == (3, 20, 30)
    levels = replace(TINY_RECIPE, guide_contrast=True, guide_smoke=True)
    both = replace(config, start=f"{config.loop.run}/result", network=levels)
    weights = RestorationObjective(both).model.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in trained.network.state_dict().items())
    narrower = replace(config, network=replace(guide_only, guide_width=3))
    with pytest.raises(ModelError, match="guide_width"):
        RestorationObjective(narrower)


@pytest.mark.parametrize(("part", "weight"), [("guide_reviews", "review.change.4"), ("guide_glow", "guide.glow")])
def test_parts_may_come_and_go(config: RestorationTrainingConfig, tmp_path: Path, part: str, weight: str) -> None:
    start = saved_start(tmp_path / "start")
    more = replace(config, start=str(tmp_path / "start"), network=replace(TINY_RECIPE, **{part: 1}))
    objective = RestorationObjective(more)
    copy, latents = torch.rand(2, 3, 16, 16), start.prior.encode(torch.rand(2, 3, 16, 16), (0, 500))
    one, other = (network.condition(copy, *latents) for network in (start.network, objective.model))
    torch.testing.assert_close((one.haze, one.airlight.expand_as(other.airlight)), (other.haze, other.airlight))
    result = train_restoration(more)
    learnt = Dehazer.from_pretrained(result).network.state_dict()
    assert learnt[f"{weight}.weight"].abs().max() > 0
    smoke = replace(config, start=str(result), network=replace(TINY_RECIPE, guide_smoke=True))
    kept = RestorationObjective(smoke).model.state_dict()
    assert torch.equal(kept["guide.stem.weight"], learnt["guide.stem.weight"])
    without = RestorationObjective(replace(config, start=str(result))).model.state_dict()
    assert without.keys() == start.network.state_dict().keys()
    assert all(torch.equal(value, learnt[key]) for key, value in without.items())


@pytest.mark.parametrize("width", [6, 8])
def test_a_larger_network_starts_as_the_smaller_one_and_learns_more(
    config: RestorationTrainingConfig, tmp_path: Path, width: int
) -> None:
    reviewed = replace(TINY_RECIPE, guide_zoom=2, guide_contrast=True, guide_reviews=2)
    small = replace(config, network=reviewed, loop=replace(config.loop, run=str(tmp_path / "small")))
    start = Dehazer.from_pretrained(train_restoration(small))
    for parameter in start.network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    start.save_pretrained(tmp_path / "start")
    larger = replace(reviewed, guide_width=width, guide_blocks=3, guide_middle=2)
    config = replace(config, start=str(tmp_path / "start"), network=larger)
    objective = RestorationObjective(config)
    copy, latents = torch.rand(2, 3, 32, 32), start.prior.encode(torch.rand(2, 3, 16, 16), (0, 500))
    one, other = (network.condition(copy, *latents) for network in (start.network, objective.model))
    torch.testing.assert_close((one.haze, one.airlight), (other.haze, other.airlight), atol=5e-3, rtol=1e-3)  # float16
    image, window = torch.rand(2, 3, 16, 16), torch.tensor([[0, 0, 16, 16.0]] * 2)
    views = (network.look(image, window, seen) for network, seen in ((start.network, one), (objective.model, other)))
    torch.testing.assert_close(*(view.transmission for view in views), atol=5e-3, rtol=1e-3)
    weights = Dehazer.from_pretrained(train_restoration(config)).network.state_dict()
    stem = weights["guide.stem.weight"]
    assert not torch.equal(stem[2 * 4 - width : 4], stem[4:])  # what was there twice has learnt apart
    assert weights["guide.middle.1.second.weight"].abs().max() > 0


GROW = """
import sys
from hashlib import sha256
import torch
from test_training_pairs import *
folder = Path(sys.argv[1])
network = replace(TINY_RECIPE, guide_width=7)
loop = LoopConfig(str(folder / "run"), images=8, batch=4)
pairs = {"halved": PairSet(str(folder), names=("01..03",))}
start = RestorationTrainingConfig(
    str(folder / "prior"), loop, train_pairs=pairs, start=str(folder / "start"), network=network, crop=16
)
torch.manual_seed(0)
weights = RestorationObjective(start).model.state_dict()
print(sha256(b"".join(weights[key].contiguous().numpy().tobytes() for key in sorted(weights))).hexdigest())
"""


@pytest.mark.usefixtures("config")
def test_a_network_grows_alike_in_every_process(tmp_path: Path) -> None:
    saved_start(tmp_path / "start")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", GROW, str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent)},
            stdout=subprocess.PIPE,
        )
        for seed in "12"
    ]
    digests = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(digests) == 1


def test_photographs_may_be_left_out_and_taken_more_often(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    mixed, hazy, scenes = with_photos(config, tmp_path / "photos"), tmp_path / "hazy.txt", tmp_path / "scenes.txt"
    all_of_them = RestorationObjective(mixed).pictures()
    assert {"photos/3", "photos/17", "photos/18"} <= set(all_of_them)
    hazy.write_text("\ufeff3 0\n# in fog\n 17\t0\n")
    scenes.write_text("18 3\nof another folder 2\n")
    objective = RestorationObjective(replace(mixed, repeats=(str(hazy), str(scenes))))
    times = {"photos/3": 0, "photos/17": 0, "photos/18": 3}
    assert Counter(objective.pictures()) == Counter({name: times.get(name, 1) for name in all_of_them})
    again = [photo for photo in objective._train if photo.name == "18"]
    assert again[0] is again[1] is again[2]  # decoded once


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read"),
        ("\n".join(f"{stem} 0" for stem in range(40)), "repeats.txt: no photograph in .* is left"),
        ("3\n", "expected a stem and a number .* got '3'"),
        ("3 -1\n", "got '3 -1'"),
        ("3 1000\n", "got '3 1000'"),
        ("3 1\n4 2\n3 0\n", "3 is listed twice, for 1 and 0 times"),
    ],
)
def test_a_list_of_repeats_must_be_there_say_how_often_and_leave_something(
    config: RestorationTrainingConfig, tmp_path: Path, text: str | None, message: str
) -> None:
    repeats = tmp_path / "repeats.txt"
    if text is not None:
        repeats.write_text(text)
    with pytest.raises(DataError, match=message):
        RestorationObjective(replace(with_photos(config, tmp_path / "photos"), repeats=(str(repeats),)))
    with pytest.raises(ConfigError, match="expected photos"):
        replace(config, repeats=(str(repeats),))


def test_photographs_that_are_listed_and_not_there_are_remarked_on(
    config: RestorationTrainingConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "repeats.txt").write_text("3 2\n1.png 2\n")
    RestorationObjective(replace(with_photos(config, tmp_path / "photos"), repeats=(str(tmp_path / "repeats.txt"),)))
    assert "not among the photographs to train on: 1.png (1 in all)" in caplog.text


class Brightness:
    """A prior that is no U-Net: in every cell the mean colour, whatever the time-step."""

    spec = LatentSpec(channels=3, reduction=2, guide_size=16)

    def encode(self, guide: torch.Tensor, timesteps: Sequence[int]) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(guide, 2).expand(len(timesteps), -1, -1, -1, -1)


def test_any_prior_may_be_trained_with(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    plugged = replace(config, prior="nowhere")
    objective = RestorationObjective(plugged, Brightness())
    result = train(objective, config.loop, open_run(plugged))
    trained = load_file(result / "model.safetensors")["guide.latents.weight"]
    assert trained.shape[1] == 2 * 3
    assert not (result / "prior").exists()
    network = DiffLI2D(_read_config(json.loads((result / "config.json").read_text())).network)
    network.load_state_dict({key: value.float() for key, value in load_file(result / "model.safetensors").items()})
    saved_start(tmp_path / "start")
    for key in ("start", "latent_cache"):
        with pytest.raises(ConfigError, match=f"{key} compares .* expected a UNetPrior, got Brightness"):
            RestorationObjective(replace(config, **{key: str(tmp_path / "start")}), Brightness())


def test_only_the_named_weights_learn(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    start = saved_start(tmp_path / "start")
    config = replace(config, start=str(tmp_path / "start"), loop=replace(config.loop, learn=("guide.stem", "head")))
    learnt = Dehazer.from_pretrained(train_restoration(config)).network.state_dict()
    changed = {key for key, value in start.network.state_dict().items() if not torch.equal(value, learnt[key])}
    assert (
        {"guide.stem.weight", "head.weight"}
        <= changed
        <= {f"{part}.{kind}" for part in ("guide.stem", "head") for kind in ("weight", "bias")}
    )
    with pytest.raises(ConfigError, match=r"no weight is named stam.*known beginnings: coarse_haze"):
        train_restoration(replace(config, loop=replace(config.loop, run=f"{config.loop.run}2", learn=("stam",))))


def test_whole_pictures_come_first_and_leave_the_network_of_the_tiles_alone(
    config: RestorationTrainingConfig, tmp_path: Path
) -> None:
    saved_start(tmp_path / "start")
    objective = RestorationObjective(replace(config, start=str(tmp_path / "start"), wholes=4))
    whole, both = objective.batches(4)[0], objective.batches(4)[1]
    assert (len(whole.hazy), len(both.hazy), len(whole.copy)) == (0, 8, 4)
    assert all(torch.equal(*each) for each in zip(objective.batches(2)[1].copy, whole.copy[2:], strict=True))
    objective.loss(objective.model, whole).backward()
    assert objective.model.stem[1].weight.grad is None
    assert objective.model.guide.stem.weight.grad is not None
    objective.loss(objective.model, both).backward()
    assert objective.model.stem[1].weight.grad is not None
    with pytest.raises(ConfigError, match=r"wholes 6 is no multiple of loop\.batch 4"):
        replace(config, wholes=6)


def test_a_start_of_another_configuration_is_refused(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    saved_start(tmp_path / "start")
    start = replace(config, start=str(tmp_path / "start"))
    with pytest.raises(ModelError, match=r"'haze_timestep': 500.*'haze_timestep': 200"):
        RestorationObjective(replace(start, haze_timestep=200))
    with pytest.raises(ModelError, match="guide_width"):
        RestorationObjective(replace(start, network=replace(TINY_RECIPE, guide_width=9)))  # more than twice as wide
    for key in ("guide_blocks", "guide_middle"):
        with pytest.raises(ModelError, match=f"'{key}': 1.*'{key}': 0"):
            RestorationObjective(replace(start, network=replace(TINY_RECIPE, **{key: 0})))


def test_a_start_may_see_mirror_images_or_not(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    saved_start(tmp_path / "start")
    for model in ("start", "mirrored"):
        for mirrored in (True, False):
            start = replace(config, start=str(tmp_path / model), mirrored=mirrored)
            objective = RestorationObjective(start)
            objective.export(objective.model, tmp_path / "result")
            assert Dehazer.from_pretrained(tmp_path / "result").config.mirrored == mirrored
            if mirrored:
                objective.export(objective.model, tmp_path / "mirrored")


def test_a_start_of_another_prior_is_refused(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    saved_start(tmp_path / "start")
    tiny_prior(seed=1).save(tmp_path / "prior")
    with pytest.raises(ModelError, match="its prior is another one"):
        RestorationObjective(replace(config, start=str(tmp_path / "start")))


def test_validation_on_scenes_that_are_trained_on_is_refused(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=": 01"):
        RestorationObjective(replace(config, validation_pairs={"all": PairSet(str(tmp_path))}))


def test_a_scene_under_two_names_is_in_one_split(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    for folder in ("hazy", "clear"):
        shutil.copy(tmp_path / folder / "02.png", tmp_path / folder / "05.png")
    copied = replace(config.validation_pairs["halved"], names=("04..05",))
    with pytest.raises(DataError, match=r"validation pairs show scenes .* in the training pairs: 05 \(1 in all\)"):
        RestorationObjective(replace(config, validation_pairs={"x": copied}))


def test_a_run_goes_on_with_the_pairs_that_it_began_with(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    scenes = replace(config, train_pairs={"halved": PairSet(str(tmp_path), names=("0[1235]*",))})
    train_restoration(config)
    named = Path(config.loop.run) / "pictures.json"
    assert json.loads(named.read_text()) == ["train_pairs/01", "train_pairs/02", "train_pairs/03"]
    (tmp_path / "hazy" / "02.png").unlink()
    with pytest.raises(DataError, match=r"began with other pictures .*: gone train_pairs/02 \(1 in all\)\. Put"):
        train_restoration(replace(config, loop=replace(config.loop, images=16)))
    with pytest.raises(ConfigError, match=r"train_pairs\.halved\.names"):
        train_restoration(scenes)


def test_a_run_goes_on_with_the_shards_that_it_began_with(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    pairs, shards = config.train_pairs["halved"].pairs(), tmp_path / "shards"
    packed = replace(config, train_pairs={}, shards=str(shards))
    write_shards(pairs, shards)
    train_restoration(packed)
    shutil.rmtree(shards)
    write_shards(pairs[:2], shards)
    with pytest.raises(DataError, match=r"began with other pictures .*: gone shards/\w{64}.*; added shards/\w{64}"):
        train_restoration(packed)


def test_depth_maps_that_came_later_are_refused(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    mixed = replace(with_photos(config, tmp_path / "photos"), depth=str(tmp_path / "depth"))
    (tmp_path / "depth").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "depth" / "7.png")
    train_restoration(mixed)
    Image.new("L", (4, 4)).save(tmp_path / "depth" / "8.png")
    with pytest.raises(DataError, match=r"added depth/8 \(1 in all\)"):
        train_restoration(mixed)


def test_a_damaged_pair_is_refused_at_the_start(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    damage(tmp_path / "clear" / "02.png")
    with pytest.raises(DataError, match=r"1 of 3 cannot be used.*clear/02\.png"):
        RestorationObjective(config)


def test_pictures_of_different_sizes_are_refused_at_the_start(
    config: RestorationTrainingConfig, tmp_path: Path
) -> None:
    Image.new("RGB", (31, 24)).save(tmp_path / "hazy" / "02.png")
    with pytest.raises(DataError, match=r"hazy/02\.png .* differ in size: 31 x 24 and 32 x 24"):
        RestorationObjective(config)


def test_a_damaged_pair_amid_an_epoch_is_left_out_said_and_counted(
    config: RestorationTrainingConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lazy = replace(config.train_pairs["halved"], in_memory=False)
    config = replace(config, train_pairs={"halved": lazy}, loop=replace(config.loop, images=40))
    damage(tmp_path / "clear" / "02.png")
    train_restoration(config)
    assert "clear/02.png" in caplog.text
    stats = [json.loads(line) for line in (Path(config.loop.run) / "stats.jsonl").read_text().splitlines()]
    assert stats[-2]["skipped"] == caplog.text.count("left out") > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_training_stops_where_no_pair_can_be_read(
    config: RestorationTrainingConfig, tmp_path: Path, workers: int
) -> None:
    lazy = replace(config.train_pairs["halved"], in_memory=False)
    for name in ("01", "02", "03"):
        damage(tmp_path / "hazy" / f"{name}.png")
    with pytest.raises(
        DataError, match=r"^10 pairs drawn in a row .* the last one: cannot read .*hazy.0\d\.png: [^\n]*$"
    ):
        train_restoration(replace(config, train_pairs={"halved": lazy}, loop=replace(config.loop, workers=workers)))


def test_a_damaged_pair_to_validate_on_is_named_at_the_start(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    damage(tmp_path / "clear" / "04.png")
    with pytest.raises(DataError, match=r"1 of 1 cannot be used, .*clear.04\.png"):
        RestorationObjective(config)


def test_depth_maps_of_other_photographs_are_refused(config: RestorationTrainingConfig, tmp_path: Path) -> None:
    mixed = replace(with_photos(config, tmp_path / "photos"), depth=str(tmp_path / "clear"))
    with pytest.raises(DataError, match=r"no picture in .*clear is named as a photograph in .*photos, such as 0"):
        RestorationObjective(mixed)
    Image.new("L", (4, 4)).save(tmp_path / "clear" / "7.png")
    RestorationObjective(replace(mixed, validation_pairs={}, train_pairs={}))


def test_pairs_decoded_on_use_give_the_same_batches(config: RestorationTrainingConfig) -> None:
    lazy = replace(config.train_pairs["halved"], in_memory=False)
    one, other = (RestorationObjective(each) for each in (config, replace(config, train_pairs={"halved": lazy})))
    assert all(torch.equal(a, b) for a, b in zip(one.batches(4)[0], other.batches(4)[0], strict=True))


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def test_losses_are_chosen_by_name(config: RestorationTrainingConfig) -> None:
    torch.manual_seed(0)
    plain = RestorationObjective(config)
    batch = plain.batches(4)[0]
    torch.manual_seed(0)
    richer = RestorationObjective(replace(config, losses={"l1": 1.0, "ssim": 0.1, "frequency": 0.05}))
    assert richer.loss(richer.model, batch) > plain.loss(plain.model, batch)


@pytest.mark.parametrize("losses", [{"l1": 1.0, "sim": 0.1}, {}])
def test_an_unknown_loss_is_refused(config: RestorationTrainingConfig, losses: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="one or more of l1, l2, decibels, ssim, frequency, contrast"):
        replace(config, losses=losses)


def test_a_recipe_without_data_is_refused(config: RestorationTrainingConfig) -> None:
    with pytest.raises(ConfigError, match="neither photos nor train_pairs"):
        replace(config, train_pairs={})


def test_scenes_are_not_composed_without_photographs(config: RestorationTrainingConfig) -> None:
    with pytest.raises(ConfigError, match="papered with parts of photographs: expected photos"):
        replace(config, composed=0.3)
