"""Noise is taken from what rests or moves as a whole; what happens is neither delayed nor smeared."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.data import astronaut
from tiny import tiny_dehazer

from difflid.inference import Steady
from difflid.inference.motion import displacement, moved
from difflid.inference.noise import Noise
from difflid.network.blocks import start_at

PHOTO = torch.from_numpy(astronaut().copy()).permute(2, 0, 1)[None] / 255 * 0.6 + 0.2  # (1, 3, 512, 512), not clipped
LEAST = 0.08  # what half a second gives at 25 frames per second
SIGMA = 4 / 255
SQUARE = 8  # pixels


def still(index, step=0):
    return PHOTO[:, :, 100:280, index * step : index * step + 240]


def panned(distance):
    """The photograph moved to the left by any part of a pixel, by its spectrum: exact, with all its detail."""
    spectrum, frequency = torch.fft.rfft(PHOTO), torch.fft.rfftfreq(PHOTO.shape[3])
    moved = torch.fft.irfft(spectrum * torch.exp(2j * torch.pi * frequency * distance), n=PHOTO.shape[3])
    return moved[:, :, 100:280, 40:280]


def seen(scene, count=16):
    """Frames of ``scene(index)`` with noise, what is left of them without it, and the truth."""
    generator, noise = torch.Generator().manual_seed(0), Noise()
    for index in range(count):
        truth = scene(index)
        frame = truth + SIGMA * torch.randn(truth.shape, generator=generator)
        yield frame, noise.without(frame, LEAST), truth


def squares(values):
    return F.avg_pool2d(values, SQUARE)


def worst(values):
    return float(squares(values).abs().max())


@pytest.mark.parametrize("step", [0, 1, 3])
def test_noise_goes_and_the_scene_stays(step):
    """Still and panning: pixels, squares and the mean have much less noise at the end, and no error of another kind."""
    *_, (frame, quiet, truth) = seen(lambda index: still(index, step))
    inside = (..., slice(None), slice(0, 180))  # what has been in sight for all frames
    noisy, left = (frame - truth)[inside], (quiet - truth)[inside]
    assert left.std() < noisy.std() / 1.8
    assert squares(left).std() < squares(noisy).std() / 1.8
    assert worst(quiet - truth) < 1.2 * worst(frame - truth)


def detail(values):
    """What is finer than two pixels or so, but for the border."""
    return (values - F.avg_pool2d(values, 3, stride=1, padding=1))[..., 8:-8, 8:160]


@pytest.mark.parametrize("step", [0.5, 3.5, 1.3])
def test_between_pixels_noise_goes_and_detail_stays(step):
    for frame, quiet, truth in list(seen(lambda index: panned(step * index)))[-2:]:
        noisy, left = (frame - truth)[..., 8:160], (quiet - truth)[..., 8:160]
        assert left.std() < noisy.std() / 1.6
        assert squares(left).std() < squares(noisy).std() / 1.8
        kept = (detail(quiet) * detail(truth)).sum() / detail(truth).square().sum()
        assert kept == pytest.approx(1, abs=0.02)


def test_without_noise_nothing_is_softened():
    """Detail weaker than noise could get lost where there is noise elsewhere: here, it is all there is."""
    noise = Noise()
    for index in range(16):
        truth = panned(1.3 * index)
        kept = (detail(noise.without(truth, LEAST)) * detail(truth)).sum() / detail(truth).square().sum()
        assert kept == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("contrast", [0.03, 0.3])
@pytest.mark.parametrize("speed", [1, 6])
@pytest.mark.parametrize("pan", [0, 0.5])
def test_what_passes_leaves_no_trail(contrast, speed, pan):
    def scene(index):
        picture = panned(pan * index)
        picture[:, :, 60:100, 20 + speed * index : 60 + speed * index] += contrast
        return picture

    for frame, quiet, truth in seen(scene):
        assert worst(quiet - truth) < 1.5 * worst(frame - truth)


@pytest.mark.parametrize("change", [1 / 255, 0.05, -0.15])
def test_a_change_of_brightness_is_followed_at_once(change):
    errors = [float((quiet - truth).mean().abs()) for _, quiet, truth in seen(lambda i: still(0) + change * (i >= 10))]
    assert max(errors) < 0.25 / 255


@pytest.mark.parametrize("rate", [0.1 / 255, 1 / 255])
def test_a_fade_is_followed(rate):
    errors = [float((quiet - truth).mean().abs()) for _, quiet, truth in seen(lambda i: still(0) + rate * i, 30)]
    assert max(errors) < 0.3 / 255


def test_what_moves_every_way_is_left_as_it_is():
    """Half of the picture goes to the left, half to the right: nothing to average, and nothing is smeared."""

    def scene(index):
        return torch.cat(
            (PHOTO[:, :, 0:90, 5 * index :][..., :240], PHOTO[:, :, 300:390, 100 - 5 * index :][..., :240]), 2
        )

    for frame, quiet, truth in seen(scene, 8):
        assert squares(quiet - truth).std() < 1.5 * squares(frame - truth).std()


def test_what_is_clipped_or_not_encoded_anew_tells_no_noise():
    noise = Noise()
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        frame = still(0) + SIGMA * torch.randn(still(0).shape, generator=generator)
        frame[:, :, :100] = 1.0
        quiet = noise.without(frame, LEAST)
    assert torch.equal(quiet[:, :, :90], frame[:, :, :90])
    assert (quiet - still(0))[:, :, 110:].std() < SIGMA / 1.8


def test_results_stay_in_their_range():
    """Interpolation between pixels goes beyond it at edges."""
    noise, generator = Noise(), torch.Generator().manual_seed(0)
    for index in range(6):
        frame = moved(PHOTO, (0, -1.5 * index))[:, :, :400, :400]
        frame = frame + SIGMA * torch.randn(frame.shape, generator=generator)
        noise.without(frame, LEAST)
        result = noise.steady((3 * frame - 1).clamp(0, 1))
        assert result.min() >= 0
        assert result.max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (33, 20)])
def test_any_size(size):
    noise = Noise()
    for _ in range(3):
        frame = torch.rand(1, 3, *size)
        assert noise.without(frame, LEAST).shape == noise.steady(frame).shape == frame.shape


def test_frames_of_another_size_begin_anew():
    noise = Noise()
    noise.without(torch.rand(1, 3, 40, 40), LEAST)
    frame = torch.rand(1, 3, 40, 60)
    assert torch.equal(noise.without(frame, LEAST), frame)


@pytest.mark.parametrize("shift", [(0, 0), (0, -3), (2, 7), (-20, 11), (0.5, -1.25)])
def test_displacements_are_found(shift):
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.normal(0, SIGMA, (1, 3, 300, 300)).astype(np.float32))
    after = moved(PHOTO, shift)[..., 100:400, 100:400] + noise
    assert displacement(PHOTO[..., 100:400, 100:400], after) == pytest.approx(shift, abs=0.15)


def test_to_move_between_pixels_keeps_detail():
    """There and back again, as a wave of two thirds of the highest frequency shows."""
    wave = 0.5 + 0.3 * torch.sin(2 * torch.pi * torch.arange(300) / 3).expand(1, 3, 300, 300)
    there = moved(wave, (0.5, -0.25))
    back = moved(there, (-0.5, 0.25))
    assert (there - wave).std() > 0.1
    assert (back - wave)[..., 16:-16].std() < 0.01


def test_a_result_that_was_left_out_is_no_part_of_the_average():
    """Results are kept where the scene is, which may be a part of a pixel from where they were seen."""
    noise = Noise()
    for index in range(8):
        quiet = noise.without(panned(0.4 * index), LEAST)
        if index % 4:
            assert (noise.steady(quiet) - quiet).abs().max() < 4 / 255


def test_the_dehazed_film_flickers_less_than_the_hazy_one():
    """With a dehazer that multiplies the noise; a still and a panning scene, frames as they differ from the last."""
    dehazer = tiny_dehazer()
    dehazer.network.coarse_haze.bias.data.fill_(6.0)  # dense
    start_at(dehazer.network.guide.airlight, -0.2)  # grey, 0.45
    for step in (0, 1):
        steady, hazy, clear = Steady(dehazer), [], []
        for index, (frame, _, _) in enumerate(seen(lambda i, step=step: still(i, step), 14)):
            hazy.append(frame)
            clear.append(steady.restore(frame, index / 25).clear)
        assert clear[-1].std() > 2 * hazy[-1].std()
        for signal in (squares, lambda values: values):
            before, after = (flicker(film[4:], step, signal) for film in (hazy, clear))
            assert after < 0.95 * before


def flicker(film, step, signal):
    """Standard deviation of what a frame differs from the mean of those before and after, at one place of the scene."""
    width = film[0].shape[3] - 2 * step
    return (
        torch.stack(
            [
                signal(b[..., step : step + width] - (a[..., 2 * step :] + c[..., :width]) / 2)
                for a, b, c in zip(film, film[1:], film[2:], strict=False)
            ]
        )
        .square()
        .mean()
        .sqrt()
    )
