"""Evaluation end to end on tiny data: scores, sets, methods, files, report and command."""

import csv
import hashlib
import json
import math
import os
import random
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy import ndimage
from skimage import color, exposure
from skimage import metrics as reference
from tiny import tiny_dehazer

from difflid import evaluation, haze
from difflid.cli import main
from difflid.cli.evaluate import evaluate as command
from difflid.data.pairs import DATA_SETS
from difflid.dehazer import Dehazer
from difflid.errors import ConfigError, DataError, MissingExtra, ModelError
from difflid.evaluation import BASELINES, PROTOCOLS, EvaluationSet, Method, open_set
from difflid.evaluation.no_reference import visible_edges

FULL = PROTOCOLS["full"]
HAZY, DARK, COLOUR, CLAHE = (BASELINES[name] for name in ("hazy", "dark-channel", "colour-attenuation", "clahe"))
COPY = f'"{sys.executable}" -c "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])" {{in}} {{out}}'


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(path)


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)) / 255


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three scenes of different sizes under haze, in a folder whose name needs escaping."""
    folder = tmp_path / "hills & <b>"
    for i, name in enumerate(["a", "b", "c<i>"]):
        clear = np.random.default_rng(i).random((16 + i, 21 - i, 3))
        write(folder / "clear" / f"{name}.png", clear)
        write(folder / "hazy" / f"{name}.png", clear * (0.9 - 0.2 * i) + 0.1 + 0.2 * i)
    return folder


def scores(results: evaluation.Results) -> dict[tuple[str, str, str], dict[str, float]]:
    return {(row.method, row.set, row.picture): row.scores for row in results.rows}


def test_scores_are_those_of_the_files(pairs: Path) -> None:
    row = evaluation.evaluate([HAZY], [open_set(str(pairs))], FULL).rows[1]
    hazy, clear = read(pairs / "hazy/b.png"), read(pairs / "clear/b.png")
    expected = reference.peak_signal_noise_ratio(clear, hazy, data_range=1)
    assert (row.picture, row.width, row.height) == ("b", 20, 17)
    assert row.scores["psnr"] == pytest.approx(expected, abs=1e-4)
    assert row.scores["gain"] == 0


def test_restored_pictures_are_clamped_and_rounded(pairs: Path) -> None:
    test_set = open_set(str(pairs))
    nearly = Method("nearly", lambda hazy: hazy + 0.001)
    found = [evaluation.evaluate([nearly, HAZY], [test_set], PROTOCOLS[name]) for name in ("full", "unrounded")]
    assert [row.scores["gain"] == 0 for row in found[0].of("nearly", test_set.name)] == [True] * 3
    assert found[1].of("nearly", test_set.name)[0].scores["gain"] != 0
    assert FULL.finished(torch.tensor([-1.0, 2.0, 0.5])).tolist() == pytest.approx([0, 1, 128 / 255])


def test_scores_depend_on_neither_order_nor_company(pairs: Path) -> None:
    whole = open_set(str(pairs))
    shuffled = list(whole.pairs)
    random.Random(1).shuffle(shuffled)
    first = evaluation.evaluate([HAZY, DARK, COLOUR], [whole], FULL)
    second = evaluation.evaluate([COLOUR, HAZY], [EvaluationSet(whole.name, "pairs", tuple(shuffled))], FULL)
    assert scores(second) == {key: value for key, value in scores(first).items() if key[0] != "dark-channel"}
    assert second.summary("hazy", whole.name).scores == first.summary("hazy", whole.name).scores
    alone = evaluation.evaluate([DARK], [EvaluationSet(whole.name, "pairs", whole.pairs[2:])], FULL)
    assert scores(alone).items() <= scores(first).items()


def test_scores_do_not_depend_on_the_number_of_threads(pairs: Path) -> None:
    before, found = torch.get_num_threads(), []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        found.append(scores(evaluation.evaluate([HAZY, DARK, COLOUR], [open_set(str(pairs))], FULL)))
    torch.set_num_threads(before)
    assert all(found[0][key] == pytest.approx(found[1][key], abs=1e-9) for key in found[0])


def test_luma_is_that_of_scikit_image(pairs: Path) -> None:
    row = evaluation.evaluate([HAZY], [open_set(str(pairs))], PROTOCOLS["luma"]).rows[0]
    hazy, clear = (color.rgb2ycbcr(read(pairs / side / "a.png"))[..., 0] for side in ("hazy", "clear"))
    conditions = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert row.scores["psnr"] == pytest.approx(reference.peak_signal_noise_ratio(clear, hazy, data_range=255), abs=1e-5)
    expected = reference.structural_similarity(clear, hazy, data_range=255, **conditions)
    assert row.scores["ssim"] == pytest.approx(expected, abs=1e-6)
    full = evaluation.evaluate([HAZY], [open_set(str(pairs))], FULL).rows[0]
    assert row.scores["ciede2000"] == full.scores["ciede2000"]


def test_reduced_pictures_are_restored_and_measured_small(tmp_path: Path) -> None:
    write(tmp_path / "hazy/a.png", np.full((40, 1280, 3), 0.5))
    write(tmp_path / "clear/a.png", np.full((40, 1280, 3), 0.6))
    seen = []
    look = Method("look", lambda hazy: seen.append(hazy.shape) or hazy)
    row = evaluation.evaluate([look], [open_set(str(tmp_path))], PROTOCOLS["reduced"]).rows[0]
    assert seen == [(1, 3, 20, 640)]
    assert (row.width, row.height) == (640, 20)
    assert row.scores["psnr"] == pytest.approx(20 * math.log10(255 / 25), abs=1e-3)


def test_ms_ssim_is_measured_where_it_is_defined(tmp_path: Path) -> None:
    for name, side in (("a", 161), ("b", 160)):
        for folder in ("hazy", "clear"):
            write(tmp_path / folder / f"{name}.png", np.random.default_rng(0).random((side, 170, 3)))
    results = evaluation.evaluate([HAZY], [open_set(str(tmp_path))], FULL)
    large, small = results.rows
    assert large.scores["ms_ssim"] == pytest.approx(1)
    assert "ms_ssim" not in small.scores
    assert results.summary("hazy", tmp_path.name).counts == {
        "psnr": 2,
        "ssim": 2,
        "ms_ssim": 1,
        "ciede2000": 2,
        "gain": 2,
    }
    assert "MS-SSIM (1 of 2)" in results.table()
    assert results.to_csv().splitlines()[2].split(",")[8] == ""
    evaluation.write_report(results, [HAZY], [open_set(str(tmp_path))], tmp_path / "report.html")
    assert "MS-SSIM (1 of 2)" in (tmp_path / "report.html").read_text()


def test_clahe_changes_lightness_only_as_scikit_image_does() -> None:
    hazy = torch.rand(1, 3, 40, 33, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.5
    before, after = (color.rgb2lab(each[0].permute(1, 2, 0).numpy()) for each in (hazy, CLAHE.restore(hazy)))
    expected = color.lab2rgb(np.dstack([100 * exposure.equalize_adapthist(before[..., 0] / 100), before[..., 1:]]))
    assert np.abs(CLAHE.restore(hazy)[0].permute(1, 2, 0).numpy() - expected).max() < 1e-6
    inside = ((expected > 0) & (expected < 1)).all(axis=2)
    assert np.abs(after - before)[inside][:, 1:].max() < 0.1
    assert after[..., 0].std() > 2 * before[..., 0].std()


@pytest.mark.parametrize("size", [(1, 1), (3, 20)])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_clahe_takes_any_size_and_black_and_white(size: tuple[int, int], level: float) -> None:
    restored = CLAHE.restore(torch.full((1, 3, *size), level))
    assert restored.shape == (1, 3, *size)
    assert restored.isfinite().all()


def test_clahe_without_scikit_image_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingExtra, match=r"pip install 'difflid\[clahe\]'"):
        CLAHE.restore(torch.zeros(1, 3, 4, 4))


def test_clear_photographs_are_compared_with_themselves(pairs: Path) -> None:
    test_set = open_set(f"clear:{pairs / 'clear'}")
    results = evaluation.evaluate([HAZY, DARK], [test_set], FULL)
    assert results.summary("hazy", "clear").scores == {"psnr": 60.0, "ssim": 1.0, "ciede2000": 0.0}
    assert results.summary("dark-channel", "clear").scores["psnr"] < 60
    assert FULL.psnr_cap == 60


def test_hazy_photographs_get_measures_without_reference(pairs: Path) -> None:
    test_set = open_set(f"hazy:{pairs / 'hazy'}")
    results = evaluation.evaluate([HAZY, DARK], [test_set], FULL)
    assert set(results.rows[0].scores) == {"e", "r", "sigma", "dark_channel", "contrast", "saturation", "fog_density"}
    before, after = (results.summary(name, "hazy").scores for name in ("hazy", "dark-channel"))
    assert (before["e"], before["r"], before["sigma"]) == (0, 1, 0)
    assert after["r"] > 1
    assert after["dark_channel"] < before["dark_channel"]
    assert results.differences == []


def test_a_hazy_picture_without_visible_edges_has_no_part_in_the_means_of_e_and_r(tmp_path: Path) -> None:
    write(tmp_path / "edges.png", np.random.default_rng(0).random((20, 21, 3)))
    write(tmp_path / "even.png", np.full((20, 21, 3), 0.7))
    (tmp_path / "even").mkdir()
    shutil.copy(tmp_path / "even.png", tmp_path / "even")
    noisy = Method(
        "noisy", lambda hazy: hazy + torch.rand(hazy.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    )
    both, alone = open_set(f"hazy:{tmp_path}"), open_set(f"hazy:{tmp_path / 'even'}")
    results = evaluation.evaluate([noisy], [both, alone], FULL)
    edges, even = results.of("noisy", both.name)
    assert {"e", "r"} == set(edges.scores) - set(even.scores)
    summary = results.summary("noisy", both.name)
    assert (summary.scores["e"], summary.counts["e"], summary.counts["sigma"]) == (edges.scores["e"], 1, 2)
    assert "e (1 of 2)" in results.table()
    assert not {"e", "r"} & set(results.summary("noisy", alone.name).scores)
    evaluation.write_report(results, [noisy], [both, alone], tmp_path / "report.html")
    results.save(tmp_path)


def direct_edges(levels: np.ndarray) -> np.ndarray:
    edges = np.zeros(levels.shape, bool)
    for top in range(0, levels.shape[0], 7):
        for left in range(0, levels.shape[1], 7):
            window = [(y, x) for y in range(top, top + 7) for x in range(left, left + 7)]
            window = [place for place in window if place[0] < levels.shape[0] and place[1] < levels.shape[1]]
            couples = [((y, x), other) for y, x in window for other in ((y + 1, x), (y, x + 1))
                       if other[0] < levels.shape[0] and other[1] < levels.shape[1]]  # fmt: skip
            edges |= best_separation(levels, couples)
    return edges


def best_separation(levels: np.ndarray, couples: list) -> np.ndarray:
    best, chosen = 0.0, []
    values = [levels[place] for couple in couples for place in couple]
    for s in range(int(min(values, default=0)), int(max(values, default=0))):
        apart = [(p, q) for p, q in couples if min(levels[p], levels[q]) <= s < max(levels[p], levels[q])]
        each = [min(abs(s - levels[k]) / max(s, levels[k], 1) for k in couple) for couple in apart]
        if apart and sum(each) / len(each) > best:
            best, chosen = sum(each) / len(each), apart
    edges = np.zeros(levels.shape, bool)
    for place, _ in chosen if best > 0.025 else []:
        edges[place] = True
    return edges


@pytest.mark.parametrize("size", [(1, 1), (9, 8), (14, 15)])
@pytest.mark.parametrize("spread", [4, 12, 255])
def test_visible_edges_agree_with_the_definition(size: tuple[int, int], spread: int) -> None:
    levels = np.random.default_rng(spread).integers(200 - min(spread, 200), 200 + min(spread, 55) + 1, size)
    found = visible_edges(torch.from_numpy(levels).double())
    assert np.array_equal(found.numpy(), direct_edges(levels.astype(float)))


def test_visible_edges_of_a_large_picture_are_found_in_parts() -> None:
    levels = torch.from_numpy(np.random.default_rng(0).integers(180, 200, (7 * 40, 7 * 60))).double()
    found = visible_edges(levels)  # 2400 windows, more than are looked at at once
    assert torch.equal(found[-14:], visible_edges(levels[-14:]))


def test_gradient_gain_and_burnt_pixels_agree_with_scipy() -> None:
    hazy = torch.rand(1, 3, 10, 15, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    restored = ((hazy - 0.5) * 3 + 0.5).clamp(0, 1)
    luma = [np.rint(255 * np.tensordot(haze.LUMA, image[0].double().numpy(), 1)) for image in (hazy, restored)]
    old, new = (np.hypot(*(ndimage.sobel(grey, axis, mode="nearest") for axis in (0, 1))) for grey in luma)
    edges_before, edges_after = (direct_edges(grey) for grey in luma)
    edges = edges_after & (old > 0) & (new > 0)
    burnt = np.isin(luma[1], [0, 255]) & ~np.isin(luma[0], [0, 255])
    found = evaluation.no_reference(restored, hazy)
    assert found["r"] == pytest.approx(np.exp(np.log(new[edges] / old[edges]).mean()))
    assert found["sigma"] == pytest.approx(burnt.mean())
    assert found["e"] == pytest.approx(edges_after.sum() / edges_before.sum() - 1)
    assert found["contrast"] == pytest.approx(luma[1].std() / 255)
    pixels = restored[0].permute(1, 2, 0).numpy()
    darkest = ndimage.minimum_filter(pixels.min(axis=2), 15, mode="nearest")
    assert found["dark_channel"] == pytest.approx(darkest.mean())
    assert found["saturation"] == pytest.approx(color.rgb2hsv(pixels)[..., 1].mean(), abs=1e-6)


def test_differences_are_paired_and_repeatable(pairs: Path) -> None:
    results = evaluation.evaluate([HAZY, DARK, COLOUR], [open_set(str(pairs))], FULL)
    first = results.differences[0]
    values = [row.scores["gain"] for row in results.of("dark-channel", first.set)]
    assert (first.method, first.against) == ("dark-channel", "hazy")
    assert first.mean == pytest.approx(np.mean(values))
    assert min(values) <= first.low <= first.mean <= first.high <= max(values)
    assert evaluation.evaluate([HAZY, DARK, COLOUR], [open_set(str(pairs))], FULL).differences == results.differences


def test_another_program_is_run_without_a_shell(pairs: Path) -> None:
    copy = evaluation.command_method(f"copy-2={COPY}")
    assert copy.name == "copy-2"
    results = evaluation.evaluate([HAZY, copy], [open_set(str(pairs), limit=1)], FULL)
    assert results.rows[0].scores == results.rows[1].scores
    words = f'"{sys.executable}" -c "import sys; raise SystemExit(sys.argv[1])" "; touch x" {{in}} {{out}}'
    with pytest.raises(ModelError, match="status 1: ; touch x"):
        evaluation.command_method(words).restore(torch.zeros(1, 3, 2, 2))


def test_a_method_that_fails_on_one_picture_is_left_out_and_the_others_are_kept(pairs: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from PIL import Image; hazy = Image.open(sys.argv[1]); "
        "sys.exit('no') if hazy.height == 17 else hazy.save(sys.argv[2])"
    )
    fussy = f'fussy="{sys.executable}" -c "{code}" {{in}} {{out}}'
    arguments = ["hazy", "--data", str(pairs), "--command", fussy, "--command", COPY, "--report", str(tmp_path / "out")]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 1
    assert isinstance(done.exception, ModelError)
    assert re.search(r"left out of the results: .*b\.png: .* status 1: no", str(done.exception))
    data = json.loads((tmp_path / "out/results.json").read_text())
    assert [each["name"] for each in data["methods"]] == ["hazy", "command"]
    assert [row["method"] for row in data["rows"]] == ["hazy", "command"] * 3
    assert list(data["failures"]) == ["fussy"]
    assert "b.png" in data["failures"]["fussy"]
    assert "Left out: fussy, which failed on " in (tmp_path / "out/report.html").read_text()
    assert "fussy" not in done.stdout


@pytest.mark.parametrize("text", ["prog {in}", "prog {out}", 'prog "{in} {out}'])
def test_a_command_must_say_where_its_files_go(text: str) -> None:
    with pytest.raises(ConfigError):
        evaluation.command_method(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no-such-program {in} {out}", "cannot run no-such-program"),
        (f'"{sys.executable}" -c "raise SystemExit(\'broken\')" {{in}} {{out}}', "status 1: broken"),
        (f'"{sys.executable}" -c pass {{in}} {{out}}', "no readable PNG"),
    ],
)
def test_a_command_that_fails_says_so(pairs: Path, text: str, message: str) -> None:
    with pytest.raises(ModelError, match=rf"a\.png: .*{message}"):
        evaluation.evaluate([evaluation.command_method(text)], [open_set(str(pairs))], FULL)


@pytest.mark.parametrize(
    ("restore", "message"),
    [(lambda hazy: hazy[..., 1:], r"\(1, 3, 16, 20\)"), (lambda hazy: hazy * math.nan, "no numbers")],
)
def test_a_method_must_give_a_picture_of_the_same_size(pairs: Path, restore, message: str) -> None:
    with pytest.raises(ModelError, match=rf"a\.png: bad gave .*{message}"):
        evaluation.evaluate([Method("bad", restore)], [open_set(str(pairs))], FULL)


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), MemoryError()])
def test_a_method_that_runs_out_of_memory_says_on_which_picture(pairs: Path, error: Exception) -> None:
    def fail(_: torch.Tensor) -> torch.Tensor:
        raise error

    with pytest.raises(ModelError, match=r"a\.png: large failed: .*out of memory"):
        evaluation.evaluate([Method("large", fail)], [open_set(str(pairs))], FULL)


def test_bad_data_is_named(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        open_set(str(tmp_path / "nowhere"))
    write(pairs / "hazy/b.png", np.zeros((16, 16, 3)))
    with pytest.raises(DataError, match=r"hazy/b\.png .*differ in size"):
        evaluation.evaluate([HAZY], [open_set(str(pairs))], FULL)
    (pairs / "hazy/a.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"hazy/a\.png"):
        evaluation.evaluate([HAZY], [open_set(str(pairs))], FULL)
    write(tmp_path / "small/x.png", np.zeros((10, 30, 3)))
    with pytest.raises(DataError, match=r"x\.png: expected at least 11 x 11 pixels to measure, got 30 x 10"):
        evaluation.evaluate([HAZY], [open_set(f"clear:{tmp_path / 'small'}")], FULL)


def test_a_missing_partner_and_an_empty_folder_are_named(pairs: Path, tmp_path: Path) -> None:
    (pairs / "clear/b.png").unlink()
    with pytest.raises(DataError, match=r"no clear picture for b\.png"):
        open_set(str(pairs))
    for kind in ("clear", "hazy", "o-haze"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=r"no pictures? in .*empty"):
            open_set(f"{kind}:{tmp_path / 'empty'}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["results.json", "results.csv", "report.html"])
def test_a_full_disk_is_named_and_leaves_no_half_file(
    pairs: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr("difflid.files.part_name", lambda name: f".{name}.part")
    (folder / f".{name}.part").symlink_to("/dev/full")
    done = CliRunner().invoke(command, ["hazy", "--data", str(pairs), "--report", str(folder)])
    assert isinstance(done.exception, DataError)
    assert re.search(rf"cannot write .*out/{name}: No space left", str(done.exception))
    assert "PSNR" in done.stdout
    left = {path.name for path in folder.iterdir()}
    assert name not in left
    assert not [each for each in left if each.startswith(".")]


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(command, ["hazy", "--data", str(pairs), "--report", str(tmp_path / "file/out")])
    assert isinstance(done.exception, DataError)
    assert "cannot make the folder" in str(done.exception)
    assert "PSNR" not in done.output


@pytest.mark.parametrize("name", ["results.json", "results.csv", "report.html"])
def test_what_is_in_the_way_of_a_report_is_refused_before_the_work(pairs: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("of somebody else")
    done = CliRunner().invoke(command, ["hazy", "--data", str(pairs), "--report", str(tmp_path)])
    assert isinstance(done.exception, DataError)
    assert "PSNR" not in done.output
    assert (tmp_path / name).read_text() == "of somebody else"


def test_names_that_are_not_utf_8_are_evaluated(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xfe")
    write(folder / os.fsdecode(b"\xff.png"), np.full((17, 17, 3), 0.5))
    words = ["evaluate", "hazy", "--data", f"clear:{folder}", "--report", str(tmp_path / "out")]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, done.exception) == (0, None)
    assert b"\xfe" in done.stdout_bytes
    assert b"\xff" in (tmp_path / "out" / "results.csv").read_bytes()


@pytest.fixture
def metric_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the current one, with a module of metrics."""
    lines = [
        "def mae(restored, clear): return (restored - clear).abs().mean()",
        "def psnr(restored, clear): return 0",
        "def broken(restored, clear): raise RuntimeError('no weights')",
        "def nan(restored, clear): return float('nan')",
        "number = 3",
    ]
    (tmp_path / "metrics_of_mine.py").write_text("\n".join(lines))
    (tmp_path / "no_metrics.py").write_text("raise RuntimeError('no licence')")
    (tmp_path / "a_script.py").write_text("raise SystemExit('usage: a_script')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_a_metric_of_ones_own_is_measured_beside_the_others(pairs: Path, metric_module: Path) -> None:
    arguments = ["hazy", "--data", str(pairs), "--data", f"hazy:{pairs / 'hazy'}", "--report", "out"]
    done = CliRunner().invoke(command, [*arguments, "--metric", "metrics_of_mine:mae"])
    assert done.exit_code == 0, done.output
    data = json.loads((metric_module / "out/results.json").read_text())
    assert data["custom_metrics"] == {"mae": "metrics_of_mine:mae"}
    assert "<dt>metric mae</dt><dd>metrics_of_mine:mae</dd>" in (metric_module / "out/report.html").read_text()
    expected = np.abs(read(pairs / "hazy/a.png") - read(pairs / "clear/a.png")).mean()
    assert data["rows"][0]["scores"]["mae"] == pytest.approx(expected, abs=1e-6)
    assert "mae" not in data["rows"][-1]["scores"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("mae", "as lpips or MODULE:FUNCTION, got 'mae'"),
        ("no_such_module:mae", "no_such_module"),
        ("metrics_of_mine:no_such", "no_such"),
        ("metrics_of_mine:number", "no function but a int"),
        ("no_metrics:mae", "no_metrics:mae: RuntimeError: no licence"),
        ("a_script:mae", "a_script:mae: SystemExit: usage: a_script"),
        ("metrics_of_mine:broken", r"a\.png: .*RuntimeError: no weights"),
        ("metrics_of_mine:nan", r"a\.png: .*gave nan"),
        ("metrics_of_mine:psnr", "a score psnr already"),
    ],
)
@pytest.mark.usefixtures("metric_module")
def test_a_metric_that_cannot_be_used_says_why(pairs: Path, source: str, message: str) -> None:
    done = CliRunner().invoke(command, ["hazy", "--data", str(pairs), "--metric", source])
    at_work = source.endswith((":broken", ":nan", ":psnr"))  # the others cannot even be loaded
    assert done.exit_code == (1 if at_work else 2)
    assert re.search(message, str(done.exception) if at_work else done.output)


@pytest.mark.usefixtures("metric_module")
def test_a_metric_needs_a_clear_picture(pairs: Path) -> None:
    arguments = ["hazy", "--data", f"hazy:{pairs / 'hazy'}", "--metric", "metrics_of_mine:mae"]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 2
    assert "'--metric': it compares with the clear picture" in done.stderr


def test_lpips_without_its_package_says_what_to_install(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    done = CliRunner().invoke(command, ["hazy", "--data", str(pairs), "--metric", "lpips"])
    assert isinstance(done.exception, MissingExtra)
    assert "the metric lpips needs an optional dependency: pip install 'difflid[lpips]'" in str(done.exception)


def test_lpips_without_its_weights_says_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: object) -> None:
        raise URLError("no network")

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=offline))
    with pytest.raises(ConfigError, match=r"weights of AlexNet.*no network.*checkpoints"):
        evaluation.open_metric("lpips")


def test_sets_are_opened_by_rule_and_told_apart(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text(f"{pairs.name}/hazy/a.png\t{pairs.name}/clear/a.png\n")
    specs = [str(pairs), f"nh-haze:{pairs}", f"sots:{tmp_path / 'pairs.tsv'}", str(tmp_path / "pairs.tsv")]
    sets = evaluation.open_sets(specs, limit=2)
    assert [(each.name, len(each.pairs)) for each in sets] == [
        (pairs.name, 2),
        ("nh-haze", 2),
        ("sots", 1),
        ("pairs", 1),
    ]
    assert [each.pairs[0].crop for each in sets] == [0, 0, DATA_SETS["sots"].crop, 0]
    twice = [str(pairs), f"{pairs}/"]
    assert [each.name for each in evaluation.open_sets(twice)] == twice
    with pytest.raises(ConfigError, match="name of its own"):
        evaluation.evaluate([HAZY], evaluation.open_sets([str(pairs), str(pairs)]), FULL)
    with pytest.raises(ConfigError, match="at least one method"):
        evaluation.evaluate([], [sets[0]], FULL)


def test_files_hold_all_that_makes_the_numbers(pairs: Path, tmp_path: Path) -> None:
    model = Method("model", lambda hazy: hazy * 0.9, weights_sha256={"model.safetensors": "ab" * 32})
    results = evaluation.evaluate([HAZY, model], [open_set(str(pairs)), open_set(f"hazy:{pairs / 'hazy'}")], FULL)
    results.save(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.csv", "results.json"]
    data = json.loads((tmp_path / "out/results.json").read_text())
    assert data["protocol"]["psnr_cap"] == 60
    assert "exact" in data["protocol"]["models"]
    assert data["methods"][1]["weights_sha256"] == {"model.safetensors": "ab" * 32}
    assert set(data["versions"]) == {"difflid", "torch", "diffusers", "numpy", "pillow", "safetensors", "python"}
    assert len(data["rows"]) == 12
    with (tmp_path / "out/results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["picture"] for line in lines[:6:2]] == ["a", "b", "c<i>"]
    assert float(lines[0]["psnr"]) == results.rows[0].scores["psnr"]
    assert (lines[0]["e"], lines[-1]["psnr"]) == ("", "")


def test_the_report_is_one_file_with_everything(pairs: Path, tmp_path: Path) -> None:
    methods = [HAZY, DARK, Method("<script>x", lambda hazy: hazy.sqrt())]
    sets = [open_set(str(pairs)), open_set(f"hazy:{pairs / 'hazy'}"), open_set(f"clear:{pairs / 'clear'}")]
    results = evaluation.evaluate(methods, sets, FULL)
    evaluation.write_report(results, methods, sets, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?://", page)
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="([^"]*)"', page))
    assert not re.findall(r"<link|@import|url\((?!data:)", page)
    assert page.count("<tr><th scope") == 9 + 27
    assert page.count('class="best"') == 4 + 3
    assert page.count("PSNR less that of hazy, 95 %") == 2
    assert page.count("<svg") == 6
    assert page.count('class="view"') == 6 * 3 + 3
    links = re.findall(r'href="#([^"]*)"', page)
    assert links
    assert all(f'id="{link}"' in page for link in links)
    assert "hills &amp; &lt;b&gt;" in page
    assert "c&lt;i&gt;" in page
    assert not re.findall(r"<b>\W*</|<script>x|c<i>", page)
    assert page.count('class="case"') == 9
    assert page.count('alt="transmission"') == 9
    assert "prefers-color-scheme: dark" in page
    assert "$" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def test_the_command_prints_the_table_and_writes_the_report(pairs: Path, tmp_path: Path) -> None:
    arguments = ["hazy", "dark-channel", "--data", str(pairs), "--limit", "2", "--report", str(tmp_path / "out")]
    done = CliRunner().invoke(command, [*arguments, "--command", COPY, "--command", f"twin={COPY}"])
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines() if line]
    assert lines[0][-6:] == ["2)", "PSNR", "SSIM", "CIEDE2000", "gain/dB", "s/MP"]
    assert [line[0] for line in lines[1:5]] == ["hazy", "dark-channel", "command", "twin"]
    assert lines[1][1:5] == lines[3][1:5] == lines[4][1:5]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "results.csv", "report.html"}
    again = CliRunner().invoke(command, arguments)
    assert isinstance(again.exception, DataError)
    assert "already holds a report" in str(again.exception)


def test_the_command_needs_a_method_and_a_known_protocol(pairs: Path) -> None:
    assert CliRunner().invoke(command, ["--data", str(pairs)]).exit_code == 2
    done = CliRunner().invoke(command, ["hazy", "--data", str(pairs), "--protocol", "mine"])
    assert done.exit_code == 2
    assert "full, unrounded, luma, reduced" in done.output


def test_models_run_on_the_device_that_is_asked_for(pairs: Path, tmp_path: Path) -> None:
    tiny_dehazer().save_pretrained(tmp_path / "model")
    arguments = [str(tmp_path / "model"), "hazy", "--data", str(pairs), "--limit", "1"]
    done = CliRunner().invoke(command, [*arguments, "--device", "cpu", "--report", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    methods = json.loads((tmp_path / "out/results.json").read_text())["methods"]
    assert [each["device"] for each in methods] == ["cpu", "cpu"]
    refused = CliRunner().invoke(command, [*arguments, "--device", "cuda:99"])
    assert refused.exit_code == 2
    assert "cuda:99" in refused.output


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_scores_are_those_of_every_device(pairs: Path, tmp_path: Path) -> None:
    tiny_dehazer().save_pretrained(tmp_path / "model")
    found = [
        scores(evaluation.evaluate([evaluation.method(str(tmp_path / "model"), device)], [open_set(str(pairs))],
                                   PROTOCOLS["unrounded"]))
        for device in ("cpu", "cuda")
    ]  # fmt: skip
    assert all(found[0][key] == pytest.approx(found[1][key], abs=1e-3) for key in found[0])


def test_a_model_folder_is_evaluated_with_its_digests(pairs: Path, tmp_path: Path) -> None:
    dehazer = tiny_dehazer()
    for place in ("one/model", "two/model"):
        dehazer.save_pretrained(tmp_path / place)
    names = [str(tmp_path / "one/model"), str(tmp_path / "two/model")]
    [alone] = evaluation.open_methods(names[:1])
    weights = (tmp_path / "one/model/model.safetensors").read_bytes()
    assert alone.name == "model"
    assert alone.weights_sha256["model.safetensors"] == hashlib.sha256(weights).hexdigest()
    assert len(alone.weights_sha256) == 2  # the prior's too
    assert [each.name for each in evaluation.open_methods(names)] == names
    hazy = torch.rand(1, 3, 19, 22)
    loaded = Dehazer.from_pretrained(names[0])
    expected = loaded.restore(hazy, loaded.encode(hazy))
    assert torch.equal(alone.restore(hazy), expected.clear)
    assert alone.transmission is not None
    assert torch.equal(alone.transmission(hazy), expected.transmission)
    sets = [open_set(str(pairs), limit=1)]
    results = evaluation.evaluate([alone], sets, FULL)
    evaluation.write_report(results, [alone], sets, tmp_path / "report.html")
    assert hashlib.sha256(weights).hexdigest() in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_an_unknown_model_is_an_error() -> None:
    with pytest.raises(ModelError, match="no-such-model"):
        evaluation.open_methods(["no-such-model"])
