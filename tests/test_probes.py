import numpy as np
import pytest
from PIL import Image
from tiny import tiny_prior

from difflid.data.dataset import Photo
from difflid.study.probes import hazy_samples, latent_features, pixel_features, probe


def test_a_linear_truth_is_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    features, groups = rng.standard_normal((400, 20)), np.repeat(np.arange(40), 10)
    truth = features @ rng.standard_normal(20)
    assert probe(features, truth, groups).mean > 0.99
    assert probe(features, rng.standard_normal(400), groups).mean < 0.1


def test_a_photograph_is_never_on_both_sides() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 20)
    of_group = rng.standard_normal((20, 30))[groups]  # tells the photograph and nothing else
    assert probe(of_group, rng.standard_normal(20)[groups], groups).mean < 0.5


def test_features_of_samples() -> None:
    rng = np.random.default_rng(0)
    photos = [Photo(str(i), Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)), None) for i in range(3)]
    prior = tiny_prior()
    samples = hazy_samples(photos, prior, versions=2)
    assert [sample.group for sample in samples] == [0, 0, 1, 1, 2, 2]
    assert samples[0].transmission.shape == (8, 8)
    assert latent_features(samples, prior, 100).shape == (6, 16)
    pixels = pixel_features(samples)
    assert pixels.shape[0] == 6
    assert np.isfinite(pixels).all()
    assert pixels[0, 0] == pytest.approx(samples[0].guide[0].mean().item(), abs=1e-6)
