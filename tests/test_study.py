"""The study of a prior: known truths for its parts, and the whole verb on a tiny prior."""

import json
import math
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from tiny import tiny_prior

from difflid.cli import main
from difflid.data.dataset import Photo
from difflid.errors import ConfigError, DataError
from difflid.prior import LatentSpec
from difflid.study import StudyConfig, sentences, study_prior
from difflid.study.decoders import decode, train_decoder
from difflid.study.estimates import Estimate
from difflid.study.findings import Study, Timestep
from difflid.study.maps import PrincipalMap, principal_map
from difflid.study.plots import curves
from difflid.study.probes import QUESTIONS, answers, latent_features, pixel_features, probe
from difflid.study.samples import VEILS, HazySamples, clear_guides, encode, hazy_samples, luma_quarters, veiled_guides
from difflid.study.views import Views, compare_views


def picture(index: int, size: tuple[int, int] = (20, 30)) -> Image.Image:
    coarse = np.random.default_rng(index).integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC)


def photographs(number: int) -> list[Photo]:
    return [Photo(str(index), picture(index), None) for index in range(number)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photographs whose names put them into the held-out part, and six others."""
    folder = tmp_path_factory.mktemp("photos")
    names = [[str(i) for i in range(1000) if (zlib.crc32(str(i).encode()) % 32 == 0) is part] for part in (True, False)]
    for index, name in enumerate(names[0][:12] + names[1][:6]):
        picture(index).save(folder / f"{name}.png")
    return folder


def samples(number: int = 10, versions: int = 2) -> HazySamples:
    return hazy_samples(photographs(number), tiny_prior().spec, versions=versions, seed=0)


def test_a_linear_truth_is_found_and_noise_is_not() -> None:
    rng = torch.Generator().manual_seed(0)
    features, groups = torch.randn(400, 20, generator=rng), torch.arange(40).repeat_interleave(10)
    truth = features @ torch.randn(20, 2, generator=rng)
    assert np.mean(probe(features, truth, groups)) > 0.99
    assert np.mean(probe(features, torch.randn(400, 1, generator=rng), groups)) < 0.1


def test_both_sides_of_the_regression_agree_with_its_equation() -> None:
    from difflid.study.probes import _fit_predict

    rng = torch.Generator().manual_seed(0)
    for features in (3, 40):  # fewer than rows, and more
        train, test = torch.randn(2, 20, features, generator=rng, dtype=torch.float64)
        target = torch.randn(20, 1, generator=rng, dtype=torch.float64)
        spread, mean = torch.std_mean(train, dim=0, correction=0)
        x, z = (train - mean) / spread, (test - mean) / spread
        expected = z @ torch.linalg.solve(x.T @ x + 0.7 * torch.eye(features), x.T @ target)
        found = _fit_predict(train, target, test, torch.tensor([0.7], dtype=torch.float64))[0]
        assert torch.allclose(found, expected, atol=1e-6)


def test_a_photograph_is_never_on_both_sides() -> None:
    rng = torch.Generator().manual_seed(0)
    groups = torch.arange(20).repeat_interleave(20)
    of_group = torch.randn(20, 30, generator=rng)[groups]  # tells the photograph and nothing else
    assert np.mean(probe(of_group, torch.randn(20, 1, generator=rng)[groups], groups)) < 0.5


def test_samples_are_known_hazes_of_the_photographs() -> None:
    found = samples(3)
    assert found.groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.transmission.shape == (6, 8, 8)
    assert 0 < found.transmission.min() < found.transmission.max() <= 1
    assert torch.equal(found.content[0], found.content[1])
    assert torch.equal(found.guides, samples(3).guides)


def test_quarters_of_a_cell_hold_its_luma() -> None:
    guide = torch.zeros(1, 3, 4, 4)
    guide[0, 1, 0, 1] = 1.0  # green, second column
    quarters = luma_quarters(guide, 2)  # a quarter is a pixel
    assert quarters.shape == (1, 4, 2, 2)
    assert quarters[0, :, 0, 0].tolist() == pytest.approx([0, 0.587, 0, 0])
    assert quarters.sum() == pytest.approx(0.587)


def test_a_veil_has_the_optical_depth_asked_for_and_grows_upwards() -> None:
    photos = [Photo("black", Image.new("RGB", (40, 40)), None)]
    hazy = veiled_guides(photos, 32, 1.0)[0, 0]
    transmission = 1 - hazy / 0.85
    assert (-transmission.log()).mean().item() == pytest.approx(1.0, abs=0.01)
    assert transmission[0, 0] < transmission[-1, 0]


def test_features_of_cells_are_those_of_their_place() -> None:
    found = samples(3)
    pixels = pixel_features(found.guides, 8)
    assert pixels.cells.shape == (6, 5 * 5 + 4, 8, 8)
    assert torch.isfinite(pixels.picture).all()
    assert torch.isfinite(pixels.cells).all()
    assert pixels.cells[2, 1, 3, 5].item() == pytest.approx(found.guides[2, 1, 6:8, 10:12].mean().item(), abs=1e-6)
    latents = latent_features(encode(tiny_prior(), found.guides, 100))
    assert latents.picture.shape == (6, 16)
    assert latents.cells.shape == (6, 8, 8, 8)


def test_probes_read_what_is_in_the_features() -> None:
    found = samples(20, versions=4)
    told = torch.cat([found.transmission[:, None], found.content], dim=1)
    scores = answers(found, latent_features(told), seed=0)
    assert set(scores) == set(QUESTIONS)
    for question in ("transmission", "cell_transmission", "cell_content"):
        assert min(scores[question]) > 0.99
    assert np.mean(scores["airlight"]) < 0.5


def test_a_decoder_learns_what_its_latents_hold() -> None:
    guides = clear_guides(photographs(40), 16)
    latents = torch.nn.functional.pixel_unshuffle(guides, 2).half()  # hold everything
    spec = LatentSpec(channels=12, reduction=2, guide_size=16)
    decoder, losses = train_decoder(latents, guides, spec, steps=30, seed=1)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    drawn = decode(decoder, latents)
    assert drawn.shape == guides.shape
    assert (drawn - guides).abs().mean() < 0.1


def test_a_decoder_reaches_any_guide_size() -> None:
    for reduction, size in ((1, 8), (8, 16), (14, 28)):
        spec = LatentSpec(4, reduction, size)
        decoder = train_decoder(
            torch.rand(4, 4, spec.grid, spec.grid), torch.rand(4, 3, size, size), spec, steps=1, seed=0
        ).decoder
        assert decoder(torch.rand(2, 4, spec.grid, spec.grid)).shape == (2, 3, size, size)


def test_the_map_finds_the_direction_of_haze() -> None:
    rng = torch.Generator().manual_seed(0)
    transmission = torch.rand(50, generator=rng)
    noise = torch.randn(50, 6, generator=rng)
    found = principal_map(transmission[:, None] * torch.tensor([3.0, 3, 3, -3, -3, 3]) + 0.1 * noise, transmission)
    assert found.correlation[0] < -0.99
    assert found.explained[0] > 0.9
    assert found.points[int(transmission.argmin())][0] > 1  # haze lies to the right


def stub(timestep: int, r2: float, random: float, spread: Sequence[float] = (0.01, 0, -0.01, 0.02, -0.02)) -> Timestep:
    around = {question: [r2 + each for each in spread] for question in QUESTIONS}
    chance = {question: [random + each / 2 for each in spread] for question in QUESTIONS}
    nothing = Estimate(0, 0)
    return Timestep(timestep, Views(nothing, {}, {}, {}), around, chance, PrincipalMap((), (0, 0), (0, 0)))


def found_study(*timesteps: Timestep, pixels: float) -> Study:
    scores = {question: [pixels] * 5 for question in QUESTIONS}
    return Study(LatentSpec(8, 2, 16), StudyConfig(), 1, 1, scores, timesteps, ())


def test_the_best_timestep_is_recommended_and_its_rivals_named() -> None:
    close = stub(300, 0.795, 0.5, spread=(-0.02, 0.03, 0, -0.01, 0.02))
    study = found_study(stub(0, 0.5, 0.5), stub(200, 0.8, 0.5), close, pixels=0.9)
    assert (study.haze.timestep, study.haze.rivals) == (200, (300,))
    verdicts = {(each.question, each.against): each.verdict for each in study.comparisons()}
    assert verdicts["airlight", "random weights"] == "ahead"
    assert verdicts["airlight", "pixel statistics"] == "behind"
    assert found_study(stub(0, 0.5, 0.499), pixels=0.49).comparisons()[0].verdict == "level"


def test_sentences_are_honest() -> None:
    said = "\n".join(sentences(found_study(stub(0, 0.5, 0.5), stub(200, 0.8, 0.5), pixels=0.9)))
    assert "t2 (haze) = 200" in said
    assert "expects content at a smaller time-step" in said
    assert "worse than pixel statistics" in said
    assert "in 4 of 8 comparisons" in said
    said = "\n".join(sentences(found_study(stub(200, 0.8, 0.5), pixels=0.3)))
    assert "worse than" not in said
    assert "In all that was asked" in said


def test_an_estimate_has_the_error_of_a_mean() -> None:
    found = Estimate.of([1.0, 2.0, 3.0])
    assert (found.mean, found.error) == (2.0, pytest.approx(1 / math.sqrt(3)))


def test_views_measure_what_is_drawn() -> None:
    clear = torch.rand(2, 3, 16, 16) / 2
    inputs = torch.stack([clear, clear + 0.1, clear + 0.2, clear + 0.4])
    blind = compare_views(clear.expand_as(inputs), inputs)
    assert blind.l1.mean == 0
    assert {each.mean for each in blind.haze_difference.values()} == {0}
    assert blind.ssim["r(dense), clear"].mean == pytest.approx(1)
    sees = compare_views(torch.stack([clear, clear + 0.1, clear + 0.1, clear + 0.1]), inputs)
    assert [each.mean for each in sees.haze_difference.values()] == pytest.approx([1, 0.5, 0.25], abs=1e-4)
    assert sees.psnr["r(medium), hazy"].mean == pytest.approx(20, abs=1e-3)


def test_curves_of_equal_values_and_one_timestep_can_be_drawn() -> None:
    assert "nan" not in curves("flat", [100], {"a": [Estimate(0.5, 0.0)]})


SMALL = ["--timesteps", "500,0", "--steps", "3", "--versions", "2"]


def run(folder: Path, prior: Path, report: Path, *options: str) -> str:
    arguments = ["study", str(prior), "--photos", str(folder), "--report", str(report), *SMALL, *options]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prior <&>")
    tiny_prior().save(folder)
    return folder


def test_the_verb_writes_all_numbers_and_a_page(folder: Path, prior: Path, tmp_path: Path) -> None:
    said = run(folder, prior, tmp_path / "report")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.html", "study.json"]
    data = json.loads((tmp_path / "report/study.json").read_text())
    assert len(data["sha256"]) == 64
    assert {"difflid", "torch", "python"} <= set(data["versions"])
    assert (data["train_photos"], data["validation_photos"]) == (6, 12)
    assert [each["timestep"] for each in data["timesteps"]] == [0, 500]
    for each in data["timesteps"]:
        assert set(each["views"]["haze_difference"]) == set(VEILS)
        assert set(each["views"]["ssim"]) == set(each["views"]["psnr"])
        assert {len(folds) for kind in ("latents", "random_weights") for folds in each[kind].values()} == {5}
        assert len(each["principal"]["points"]) == len(data["mean_transmission"]) == 24
    assert data["recommended"]["t1"]["timestep"] in (0, 500)
    assert f"t1 (content) = {data['recommended']['t1']['timestep']}" in said
    assert len(data["comparisons"]) == 8
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?://|<link|@import|url\(", page)
    assert page.count('src="data:image/jpeg;base64,') == page.count("<img") == 3 * 4 * 3
    assert page.count("<svg") == 2 + 4 + 2
    assert "prior &lt;&amp;&gt;" in page
    assert "--accent" in page  # the look of the evaluation
    assert "prefers-color-scheme: dark" in page
    assert not re.findall(r"\$\w|\bnan\b", page)


def test_the_verb_gives_the_same_twice_and_refuses_a_report(folder: Path, prior: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(folder, prior, tmp_path / name)
    for file in ("study.json", "report.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    arguments = ["study", str(prior), "--photos", str(folder), "--report", str(tmp_path / "a")]
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "already holds a report" in again.output


class Pyramid:
    """A prior that is no U-Net and knows no time."""

    spec = LatentSpec(channels=12, reduction=2, guide_size=16)

    def encode(self, guide: torch.Tensor, timesteps: Sequence[int]) -> torch.Tensor:
        latents = torch.nn.functional.pixel_unshuffle(guide, 2)
        return latents.expand(len(timesteps), *latents.shape)


def test_any_prior_can_be_studied(folder: Path) -> None:
    config = StudyConfig(timesteps=(0, 1), versions=2, steps=2, validation_photos=10)
    study, pictures = study_prior(Pyramid(), folder, config=config)
    assert study.timesteps[0].random_weights is None
    assert {each.against for each in study.comparisons()} == {"pixel statistics"}
    assert (study.content.timestep, study.content.rivals) == (0, (1,))  # the same latents, the smaller time-step
    assert pictures.drawn.shape == (2, 3, 4, 3, 16, 16)
    assert study.validation_photos == 10


def test_what_cannot_be_studied_is_said(tmp_path: Path, folder: Path) -> None:
    for index in range(5):
        picture(index).save(tmp_path / f"{index}.png")
    with pytest.raises(DataError, match=r"is held out, expected at least 10 and .* got \d of 5"):
        study_prior(tiny_prior(), tmp_path)
    with pytest.raises(DataError, match="no such folder of depth maps"):
        study_prior(tiny_prior(), folder, tmp_path / "none")
    with pytest.raises(DataError, match="is named as a photograph in"):
        study_prior(tiny_prior(), folder, tmp_path)
    for timesteps in ((), (0, 1000), (100, 0), (-1, 0)):
        with pytest.raises(ConfigError, match="ascending time-steps from 0 to 999"):
            study_prior(tiny_prior(), folder, config=StudyConfig(timesteps=timesteps))
    result = CliRunner().invoke(main, ["study", "x", "--photos", ".", "--report", "out", "--timesteps", "0,many"])
    assert result.exit_code == 2
    assert "'0,many'" in result.output
