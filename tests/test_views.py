import pytest
import torch
import torch.nn.functional as F

from difflid.network import Scattering
from difflid.views import Glance, Source, reduce


def scattering(transmission: torch.Tensor) -> Scattering:
    return Scattering(transmission, transmission.expand(-1, 3, -1, -1) / 2, transmission.expand(-1, 3, -1, -1) / 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (67, 129), (300, 7)])
def test_a_picture_is_reduced_in_bands_as_at_once(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand(2, 3, *size)
    whole = reduce(Source.of(image), 16, 24)
    torch.testing.assert_close(whole, F.interpolate(image, (16, 24), mode="bilinear", antialias=True))
    monkeypatch.setattr("difflid.views.BAND_PIXELS", 5 * size[1])
    assert torch.equal(reduce(Source.of(image), 16, 24), whole)


def test_a_high_and_narrow_picture_is_widened_last(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, interpolate = [], F.interpolate

    def noted(image: torch.Tensor, **options: object) -> torch.Tensor:
        result = interpolate(image, **options)
        sizes.append(result[0, 0].numel())
        return result

    monkeypatch.setattr(F, "interpolate", noted)
    reduce(Source.of(torch.rand(1, 3, 3000, 2)), 16, 24)
    assert max(sizes) == 3000 * 2


@pytest.mark.parametrize("size", [(1, 1), (9, 1), (64, 96), (67, 129)])
def test_what_was_seen_is_enlarged_in_bands_as_at_once(size: tuple[int, int]) -> None:
    small, image = torch.rand(1, 3, 9, 16), torch.rand(1, 3, *size)
    seen = scattering(0.2 + 0.6 * torch.rand(1, 1, 9, 16))
    glance = Glance.of(small, seen)
    whole = glance.enlarge(image, slice(0, size[0]), size[0])
    bands = [slice(top, min(top + 7, size[0])) for top in range(0, size[0], 7)]
    parts = [glance.enlarge(image[:, :, rows], rows, size[0]) for rows in bands]
    for name, values in vars(whole).items():
        assert torch.equal(torch.cat([getattr(part, name) for part in parts], dim=2), values)
    torch.testing.assert_close(whole.airlight, F.interpolate(seen.airlight, size, mode="bilinear"))
    assert whole.transmission.min() > 0
    assert whole.transmission.max() <= 1


def test_the_transmission_follows_the_edges_of_the_full_picture() -> None:
    roof = (torch.arange(240)[None, :] > 100 + 20 * torch.sin(torch.arange(160)[:, None] / 15)).float()[None, None]
    image = (0.9 - 0.6 * roof).expand(-1, 3, -1, -1)  # bright sky, dark roof: far and near
    transmission = 0.2 + 0.7 * roof
    small, low = (F.interpolate(each, (20, 30), mode="bilinear", antialias=True) for each in (image, transmission))
    found = Glance.of(small, scattering(low)).enlarge(image, slice(0, 160), 160).transmission
    plain = F.interpolate(low, (160, 240), mode="bilinear")
    assert (found - transmission).abs().mean() < 0.1 * (plain - transmission).abs().mean()
