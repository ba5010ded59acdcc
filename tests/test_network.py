from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny import TINY_NETWORK
from torch import Tensor

from difflid.haze import luma
from difflid.network import Condition, DiffLI2D, Scattering, restore
from difflid.network.blocks import sample_at
from difflid.network.guide import Review, bound_tint, seen_through
from difflid.network.head import haze_from, read_head, transmission_from


@pytest.fixture
def network() -> DiffLI2D:
    torch.manual_seed(0)
    network = DiffLI2D(TINY_NETWORK).eval()
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return network


def condition_of(network: DiffLI2D, batch: int = 1) -> Condition:
    return network.condition(torch.rand(batch, 3, 16, 16), torch.randn(batch, 8, 8, 8), torch.randn(batch, 8, 8, 8))


def test_reach_is_how_far_a_pixel_acts_and_no_wider_than_needed(network: DiffLI2D) -> None:
    image = torch.rand(1, 3, 96, 96).requires_grad_()
    seen = network.look(image, torch.tensor([[0, 0, 96, 96]]), condition_of(network))
    seen.transmission[0, 0, 48, 48].backward()
    assert image.grad is not None
    touched = image.grad.abs().sum(dim=(0, 1)).nonzero()
    reach = int((touched - 48).abs().max())
    assert reach <= network.reach < reach + 2 * network.stride + 2


def test_every_part_is_instructed_by_the_latents(network: DiffLI2D) -> None:
    image, window = torch.rand(1, 3, 16, 16), torch.tensor([[0, 0, 16, 16]])
    guide = torch.rand(1, 3, 16, 16)
    content, haze = torch.randn(1, 8, 8, 8), torch.randn(1, 8, 8, 8)
    inputs = [guide, content, haze]
    reference = network(image, window, *inputs)[0].transmission
    for index in range(3):
        changed = [-tensor if index == place else tensor for place, tensor in enumerate(inputs)]
        assert not torch.allclose(reference, network(image, window, *changed)[0].transmission)


def test_several_windows_of_one_picture_are_seen_as_each_alone(network: DiffLI2D) -> None:
    picture, guide = torch.rand(1, 3, 32, 32), torch.rand(2, 3, 16, 16)
    content, haze = torch.randn(2, 8, 8, 8), torch.randn(2, 8, 8, 8)
    window = torch.tensor([[0, 0, 64, 64], [32, 16, 64, 64]])
    seen, coarse = network(picture.expand(4, -1, -1, -1), window.repeat(2, 1), guide, content, haze)
    alone = network.condition(guide[1:], content[1:], haze[1:])
    torch.testing.assert_close(network.look(picture, window[:1], alone).residual, seen.residual[2:3])
    torch.testing.assert_close(network.look(picture, window[1:], alone).transmission, seen.transmission[3:])
    torch.testing.assert_close(alone.coarse().airlight, coarse.airlight[1:])
    assert coarse.transmission.shape == (2, 1, 16, 16)


def test_a_zoomed_guide_shows_the_dark_pixel_that_a_mean_hides(network: DiffLI2D) -> None:
    torch.manual_seed(0)
    zoomed = DiffLI2D(replace(TINY_NETWORK, guide_zoom=2))
    copy, dotted = torch.full((2, 1, 3, 32, 32), 0.5)
    dotted = dotted + 0.5 * torch.tensor([[-1.0, 1.0], [0.0, 0.0]]).repeat(16, 16)  # means as before
    latents = torch.randn(2, 1, 8, 8, 8)
    assert not torch.equal(zoomed.guide(copy, *latents)[0], zoomed.guide(dotted, *latents)[0])
    plain = (F.avg_pool2d(each, 2) for each in (copy, dotted))
    one, other = (network.guide(each, *latents)[0] for each in plain)
    assert torch.equal(one, other)


def test_the_airlight_is_what_the_cells_that_know_it_say(network: DiffLI2D) -> None:
    guide, seen = network.guide, list[torch.Tensor]()
    guide.middle.register_forward_hook(lambda _middle, _inputs, cells: seen.append(cells.flatten(2).transpose(1, 2)))
    assert guide.witness is not None and guide.airlight is not None  # noqa: PT018
    inputs = torch.rand(2, 3, 16, 16), *torch.randn(2, 2, 8, 8, 8)
    torch.nn.init.zeros_(guide.witness.weight)
    torch.testing.assert_close(guide(*inputs)[1], guide.airlight(seen[-1].mean(dim=1))[:, :, None, None])
    torch.nn.init.constant_(guide.witness.weight, 1e4)
    airlight = guide(*inputs)[1]
    knows = seen[-1].sum(dim=2).argmax(dim=1)
    torch.testing.assert_close(airlight, guide.airlight(seen[-1][torch.arange(2), knows])[:, :, None, None])


def test_a_glow_is_grey_and_makes_the_airlight_uneven() -> None:
    network = DiffLI2D(replace(TINY_NETWORK, guide_glow=True))
    inputs = torch.rand(2, 3, 16, 16), *torch.randn(2, 2, 8, 8, 8)
    even = network.condition(*inputs).airlight
    assert torch.equal(even, even[..., :1, :1].expand(-1, -1, 16, 16))
    assert network.guide.glow is not None
    network.guide.glow.weight.data.normal_()
    glow = network.condition(*inputs).airlight - even
    assert glow.std(dim=(2, 3)).min() > 1e-2
    torch.testing.assert_close(glow, glow[:, :1].expand(-1, 3, -1, -1), atol=1e-5, rtol=0)


def veiled(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures with black and white in them under an even veil, its haze and its airlight."""
    transmission, airlight = 0.3 + 0.4 * torch.rand(count, 1, 1, 1), 0.5 + 0.4 * torch.rand(count, 3, 1, 1)
    clear = torch.rand(count, 3, 16, 16).mul(1.4).sub(0.2).clamp(0, 1)
    haze = -torch.logit(transmission).expand(-1, 1, 16, 16)
    return clear * transmission + airlight * (1 - transmission), haze, airlight


def test_a_review_learns_the_airlight_from_what_is_left() -> None:
    torch.manual_seed(0)
    review = Review(replace(TINY_NETWORK, guide_reviews=2))
    optimizer = torch.optim.Adam(review.parameters(), 3e-3)

    def error() -> torch.Tensor:
        hazy, haze, airlight = veiled(64)
        start = torch.logit(torch.full_like(airlight, 0.7))
        return (review(hazy, torch.zeros(64, 4, 16, 16), haze, start)[1].sigmoid() - airlight).abs().mean()

    before = error().item()
    for _ in range(150):
        optimizer.zero_grad()
        error().backward()
        optimizer.step()
    assert error().item() < before / 4


def test_a_review_sees_pictures_alone_and_in_any_precision() -> None:
    review = Review(replace(TINY_NETWORK, guide_reviews=2))
    torch.nn.init.normal_(review.change[-1].weight, std=0.1)
    hazy, haze, airlight = veiled(3)
    features = torch.randn(3, 4, 16, 16)
    together = review(hazy, features, haze, torch.logit(airlight))
    alone = review(hazy[1:2], features[1:2], haze[1:2], torch.logit(airlight[1:2]))
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one[1:2], other)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, together, review(hazy, features, haze, torch.logit(airlight))))
    assert not torch.equal(together[0], haze)


def test_what_nothing_is_seen_through_is_hardly_removed() -> None:
    haze = torch.linspace(-6, 6, 32).view(1, 1, 32, 1).expand(1, 1, 32, 32)  # the denser the lower
    gain = 1 / transmission_from(haze) - 1
    blank, rough = torch.full((1, 3, 32, 32), 0.7), torch.rand(1, 3, 32, 32)
    left = 1 / transmission_from(seen_through(haze, blank)) - 1
    torch.testing.assert_close(left, gain.clamp(max=4))
    faint = blank + 2 / 255 * torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(16, 16)  # deviates by 1 / 255
    left = 1 / transmission_from(seen_through(haze, faint)) - 1
    torch.testing.assert_close(left[..., -8, 8:-8], (4 * gain[..., -8, 8:-8]).sqrt(), rtol=0.02, atol=0)
    torch.testing.assert_close(1 / transmission_from(seen_through(haze, rough)) - 1, gain, rtol=0.05, atol=0)


def test_what_is_not_seen_is_hardly_hazier_than_what_is() -> None:
    guide = torch.cat((torch.rand(1, 3, 32, 20), torch.full((1, 3, 32, 12), 0.7)), dim=3)

    def left_in_the_blank(gain_where_rough: float, column: int = -1) -> float:
        gain = torch.cat((torch.full((1, 1, 32, 20), gain_where_rough), torch.full((1, 1, 32, 12), 40.0)), dim=3)
        haze = seen_through(haze_from(1 / (1 + gain)), guide)
        return float((1 / transmission_from(haze) - 1)[0, 0, 16, column])

    assert left_in_the_blank(0.0) == pytest.approx(0.004, rel=0.05)
    for gain in (0.1, 1.0, 9.0):
        assert left_in_the_blank(gain) == pytest.approx(4 * gain, rel=0.05)
    assert left_in_the_blank(0.2, 25) == pytest.approx(0.8, rel=0.05)  # five guide pixels from what is seen
    nothing_seen = seen_through(haze_from(torch.full((1, 1, 32, 32), 1 / 41)), torch.full((1, 3, 32, 32), 0.7))
    torch.testing.assert_close(1 / transmission_from(nothing_seen) - 1, torch.full((1, 1, 32, 32), 4.0))


TRUTH = torch.tensor([0.7, 0.74, 0.8]).view(1, 3, 1, 1)
FARTHER = torch.linspace(0.9, 0.1, 16).view(1, 1, 16, 1).expand(1, 1, 16, 16)  # transmission


def under_haze(scene: Tensor | float) -> Tensor:
    return scene * FARTHER + TRUTH * (1 - FARTHER)


def bounded(airlight: Tensor, hazy: Tensor) -> Tensor:
    return bound_tint(torch.logit(airlight), haze_from(FARTHER), hazy).sigmoid()


def colour_of(picture: Tensor) -> Tensor:
    return picture - luma(picture)


def test_the_airlight_is_not_so_blue_that_distance_becomes_orange() -> None:
    blue = torch.tensor([0.6, 0.7, 1.0]).view(1, 3, 1, 1)
    scene = 0.5 + 0.2 * (FARTHER - 0.5) * torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1)  # near things are blue
    hazy = under_haze(scene)
    bound = bounded(blue, hazy)
    torch.testing.assert_close(luma(bound), luma(blue))
    left = (colour_of(hazy - bound * (1 - FARTHER)) * colour_of(blue)).sum(1) * (1 - FARTHER[:, 0]).square()
    torch.testing.assert_close(left.sum(), torch.zeros(()), atol=1e-4, rtol=0)
    assert 0.1 < colour_of(bound).norm() / colour_of(blue).norm() < 0.7
    torch.testing.assert_close(bounded(TRUTH, under_haze(0.5)), TRUTH)  # what it leaves is grey


def test_the_tint_of_the_airlight_is_neither_strengthened_nor_turned_round() -> None:
    tint = torch.tensor([-0.3, 0.0, 0.3]).view(1, 3, 1, 1)
    torch.testing.assert_close(bounded(TRUTH, under_haze(0.5 + tint)), TRUTH)
    orange = bounded(TRUTH, TRUTH - 2 * colour_of(TRUTH))
    torch.testing.assert_close(orange, luma(TRUTH).expand(1, 3, 1, 1))
    grey = torch.full_like(TRUTH, 0.8)
    torch.testing.assert_close(bounded(grey, under_haze(0.5)), grey)


def test_pictures_are_bound_alone_and_without_haze_there_is_no_harm() -> None:
    pictures = torch.cat((under_haze(0.5), under_haze(0.5 - 0.5 * colour_of(TRUTH)), torch.zeros(1, 3, 16, 16)))
    airlights, haze = torch.logit(luma(TRUTH) + 2 * colour_of(TRUTH)).repeat(3, 1, 1, 1), haze_from(FARTHER)
    haze = haze.repeat(3, 1, 1, 1)
    together = bound_tint(airlights, haze, pictures)
    alone = [bound_tint(*(part[index : index + 1] for part in (airlights, haze, pictures))) for index in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert not torch.allclose(together[0], together[1])
    assert bound_tint(airlights, torch.full_like(haze, -30.0), pictures).isfinite().all()
    maps = airlights.expand(-1, -1, *haze.shape[2:])
    torch.testing.assert_close(bound_tint(maps, haze, pictures), together.expand_as(maps))


def test_haze_and_transmission_are_one_to_one() -> None:
    haze = torch.linspace(-10, 10, 41)
    torch.testing.assert_close(haze_from(transmission_from(haze)), haze, atol=2e-2, rtol=0)


def test_without_levels_the_network_sees_what_the_guide_shows(network: DiffLI2D) -> None:
    coarse = DiffLI2D(replace(TINY_NETWORK, levels=()))
    assert (coarse.stride, coarse.reach) == (1, 0)
    condition = condition_of(coarse)
    whole = coarse.look(torch.rand(1, 3, 21, 13), torch.tensor([[0, 0, 21, 13]]), condition)
    part = coarse.look(torch.rand(1, 3, 8, 5), torch.tensor([[6, 7, 21, 13]]), condition)
    torch.testing.assert_close(part.transmission, whole.transmission[..., 6:14, 7:12])
    assert whole.residual.abs().max() == 0
    assert sum(map(torch.numel, coarse.parameters())) < sum(map(torch.numel, network.parameters()))


def test_local_contrast_reaches_the_guide_branch() -> None:
    torch.manual_seed(0)
    branch = DiffLI2D(replace(TINY_NETWORK, guide_contrast=True)).guide
    guide, latents = torch.rand(1, 3, 16, 16), torch.randn(2, 1, 8, 8, 8)
    before = branch(guide, *latents)[0]
    assert branch.contrast is not None
    torch.nn.init.normal_(branch.contrast.weight)
    assert not torch.equal(before, branch(guide, *latents)[0])


def test_smoke_that_varies_is_removed_where_the_network_has_learnt_nothing() -> None:
    torch.manual_seed(0)
    clear = 0.4 + 0.3 * torch.randn(1, 3, 64, 64).clamp(-1.3, 2)
    light = torch.linspace(0.5, 0.9, 64).expand(1, 3, 64, 64)  # of the smoke, brighter to the right
    smoky = 0.1 * clear + 0.9 * light
    network = DiffLI2D(replace(TINY_NETWORK, guide_smoke=True, levels=()))
    with torch.no_grad():
        seen = network.condition(smoky, *torch.randn(2, 1, 8, 32, 32)).coarse()
        restored = restore(smoky, seen)
    inner = (..., slice(12, -12), slice(12, -12))
    assert seen.airlight[inner].sub(light[inner]).abs().max() < 0.1
    assert (restored - clear)[inner].abs().mean() < 0.15 < (smoky - clear)[inner].abs().mean()


def test_without_windows_only_the_guide_is_seen(network: DiffLI2D) -> None:
    inputs = torch.rand(2, 3, 16, 16), torch.randn(2, 8, 8, 8), torch.randn(2, 8, 8, 8)
    seen, coarse = network(torch.empty(0, 3, 16, 16), torch.empty(0, 4), *inputs)
    assert seen is None
    assert torch.equal(coarse.transmission, network.condition(*inputs).coarse().transmission)


def test_cim_knows_what_the_latent_holds_not_where(network: DiffLI2D) -> None:
    cim = network.decoder[-1].cim
    x, content = torch.rand(1, 8, 4, 4), torch.randn(1, 8, 8, 8)
    shuffled = content.flatten(2)[:, :, torch.randperm(64)].view_as(content)
    torch.testing.assert_close(cim(x, cim.keys_values(content)), cim(x, cim.keys_values(shuffled)))


def test_sample_at_equals_bilinear_interpolation() -> None:
    maps = torch.rand(2, 3, 8, 8)
    window = torch.tensor([[0, 0, 40, 24]]).expand(2, 4)
    expected = torch.nn.functional.interpolate(maps, size=(20, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(sample_at(maps, window, (20, 12), 2), expected)


def test_sample_at_is_the_same_in_every_window() -> None:
    maps = torch.rand(1, 3, 8, 8)
    whole = sample_at(maps, torch.tensor([[0, 0, 1000, 777]]), (500, 388), 2)
    part = sample_at(maps, torch.tensor([[96, 200, 1000, 777]]), (50, 60), 2)
    assert torch.equal(part, whole[:, :, 48:98, 100:160])


def test_the_head_gives_physical_quantities() -> None:
    seen = read_head(50 * torch.randn(2, 4, 9, 5), 50 * torch.randn(2, 3, 9, 5))
    assert seen.transmission.min() > 0
    assert seen.transmission.max() <= 1
    assert 0 <= seen.airlight.min() <= seen.airlight.max() <= 1
    assert seen.residual.abs().max() <= 0.5


@pytest.mark.parametrize("strength", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_no_haze_leaves_the_picture_untouched(strength: float) -> None:
    image = torch.rand(1, 3, 5, 5)
    seen = Scattering(torch.ones(1, 1, 5, 5), torch.rand(1, 3, 5, 5), torch.rand(1, 3, 5, 5) - 0.5)
    assert torch.equal(restore(image, seen, strength), image)


def test_strength_acts_on_the_physics() -> None:
    clear, airlight = torch.rand(1, 3, 5, 5), torch.rand(1, 3, 5, 5)
    t = torch.rand(1, 1, 5, 5) * 0.6 + 0.4
    hazy = clear * t + airlight * (1 - t)
    seen = Scattering(t, airlight, torch.zeros(1, 3, 5, 5))
    torch.testing.assert_close(restore(hazy, seen), clear)
    torch.testing.assert_close(restore(clear, seen, -1.0), hazy)
    half = clear * t.sqrt() + airlight * (1 - t.sqrt())
    torch.testing.assert_close(restore(hazy, seen, 0.5), half)
    assert torch.equal(restore(hazy, seen, 0.0), hazy)


def test_colour_is_stretched_no_further_than_threefold() -> None:
    clear, t = torch.rand(1, 3, 5, 5), torch.full((1, 1, 5, 5), 0.1)
    airlight = torch.full((1, 3, 5, 5), 0.9)
    hazy = clear * t + airlight * (1 - t)
    restored = restore(hazy, Scattering(t, airlight, torch.zeros(1, 3, 5, 5)))
    torch.testing.assert_close(luma(restored), luma(clear), rtol=0, atol=1e-5)
    torch.testing.assert_close(restored - luma(restored), 3 * (hazy - luma(hazy)), rtol=0, atol=1e-5)


def test_of_a_coloured_veil_no_colour_is_left() -> None:
    clear, airlight = torch.rand(2, 1, 3, 5, 5)
    t = torch.full((1, 1, 5, 5), 0.1)
    hazy = clear * t + airlight * (1 - t)
    restored = restore(hazy, Scattering(t, airlight, torch.zeros(1, 3, 5, 5)))
    torch.testing.assert_close(luma(restored), luma(clear), rtol=0, atol=1e-5)
    torch.testing.assert_close(restored - luma(restored), 3 * t * (clear - luma(clear)), rtol=0, atol=1e-5)
