"""Measures of a restored picture where nobody knows what the clear one looks like.

``e``, ``r`` and ``sigma`` are those of Hautiere, Tarel, Aubert, Dumont, "Blind contrast enhancement assessment by
gradient ratioing at visible edges", Image Analysis & Stereology 2008. They compare with the hazy picture and reward
contrast, wanted or not: read them together, and beside the pictures. An edge is visible where its contrast is over 5 %
by Kohler, "A segmentation system based on thresholding", 1981. Here the windows of 7 x 7 pixels that share a threshold
tile the picture (the authors' program lets them overlap), so values compare with each other, not with published ones.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from difflid.evaluation.fog import fog_density
from difflid.haze import dark_channel, luma, saturation

__all__ = ["no_reference", "visible_edges"]

WINDOW = 7  # pixels
LEAST_CONTRAST = 0.05
LEVELS = 255
AT_ONCE = 2048  # windows; each couple of neighbours takes memory for every level between them


def no_reference(restored: Tensor, hazy: Tensor) -> dict[str, float]:
    """Measure one restored picture against the hazy one, both (1, 3, H, W) in [0, 1].

    Returns:
        ``e``: new visible edges per visible edge of the hazy picture; ``r``: geometric mean of the gain in gradient
        at visible edges; ``sigma``: share of pixels that became black or white; and of the restored picture alone the
        mean of its dark channel, the standard deviation of its luma, its mean HSV saturation and its fog density, all
        in [0, 1]. A hazy picture without a visible edge has neither ``e`` nor ``r``, whatever became of it.

    >>> hazy = torch.rand(1, 3, 20, 30)
    >>> measures = no_reference(hazy, hazy)
    >>> measures["e"], measures["r"], measures["sigma"]
    (0.0, 1.0, 0.0)
    """
    before, after = _levels(hazy), _levels(restored)
    edges_before, edges_after = visible_edges(before), visible_edges(after)
    burnt = _burnt(after) & ~_burnt(before)
    at_edges: dict[str, float] = {}
    if edges_before.any():
        new = edges_after.sum().item() / edges_before.sum().item() - 1
        at_edges = {"e": new, "r": _gradient_gain(before, after, edges_after)}
    return at_edges | {
        "sigma": burnt.double().mean().item(),
        "dark_channel": dark_channel(restored).double().mean().item(),
        "contrast": (after / LEVELS).std(correction=0).item(),
        "saturation": saturation(restored).double().mean().item(),
        "fog_density": fog_density(restored),
    }


def visible_edges(levels: Tensor) -> Tensor:
    """Mark the pixels that differ visibly from their right or lower neighbour.

    A threshold s separates neighbours with min <= s < max, and its contrast is the mean over them of
    min(|s - a| / max(s, a), |s - b| / max(s, b)). In each window the threshold of most contrast is taken; what it
    separates is an edge if twice its contrast is over 5 %.

    Args:
        levels: grey picture with whole values in [0, 255], (H, W).

    Returns:
        bool, (H, W).
    """
    low, high = _neighbours(levels)  # (windows, 2, 49)
    edges = [_separated(*some) for some in zip(low.split(AT_ONCE), high.split(AT_ONCE), strict=True)]
    return _untile(torch.cat(edges), levels.shape[0], levels.shape[1])


def _separated(low: Tensor, high: Tensor) -> Tensor:
    """Mark what the best threshold of each window separates visibly, (windows, 49)."""
    contrast, threshold = _contrasts(low, high).max(dim=1)
    chosen = threshold.view(-1, 1, 1)
    edge = (low <= chosen) & (chosen < high) & (2 * contrast > LEAST_CONTRAST).view(-1, 1, 1)
    return edge.any(dim=1)


def _contrasts(low: Tensor, high: Tensor) -> Tensor:
    """Contrast of each threshold in each window, (windows, 255), 0 where it separates nothing."""
    windows = len(low)
    first, last = low.flatten(), high.flatten()
    steps = (last - first).long()  # thresholds that separate these two neighbours
    couple = torch.arange(len(steps)).repeat_interleave(steps)
    step = torch.arange(len(couple)) - (steps.cumsum(0) - steps)[couple]
    level = first[couple] + step
    each = torch.minimum(step / level.clamp(min=1), (last[couple] - level) / last[couple])
    place = couple // (2 * WINDOW**2) * LEVELS + level.long()
    total = torch.zeros(windows * LEVELS, dtype=torch.float64).index_add(0, place, each)
    return (total / torch.bincount(place, minlength=windows * LEVELS).clamp(min=1)).view(windows, LEVELS)


def _neighbours(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and higher value of each pixel and its right, and its lower, neighbour, by windows: (windows, 2, 49)."""
    right = torch.cat([levels[:, 1:], levels[:, -1:]], dim=1)
    below = torch.cat([levels[1:], levels[-1:]])
    pairs = torch.stack([torch.stack([levels, levels]), torch.stack([right, below])])  # (2, 2, H, W)
    return _tile(pairs.amin(dim=0)), _tile(pairs.amax(dim=0))


def _tile(values: Tensor) -> Tensor:
    height, width = values.shape[1:]
    padded = F.pad(values, (0, -width % WINDOW, 0, -height % WINDOW))
    return F.unfold(padded.unsqueeze(1), WINDOW, stride=WINDOW).permute(2, 0, 1)


def _untile(windows: Tensor, height: int, width: int) -> Tensor:
    size = (height + -height % WINDOW, width + -width % WINDOW)
    whole = F.fold(windows.double().t().unsqueeze(0), size, WINDOW, stride=WINDOW)
    return whole[0, 0, :height, :width] > 0


def _levels(image: Tensor) -> Tensor:
    return (luma(image.double())[0, 0] * LEVELS).round()


def _burnt(levels: Tensor) -> Tensor:
    return (levels == 0) | (levels == LEVELS)


def _gradient_gain(before: Tensor, after: Tensor, edges: Tensor) -> float:
    """Geometric mean of the ratio of Sobel gradients at ``edges``, where both are above 0; 1 without any."""
    old, new = _gradient(before), _gradient(after)
    counted = edges & (old > 0) & (new > 0)
    return (new[counted] / old[counted]).log().mean().exp().item() if counted.any() else 1.0


def _gradient(levels: Tensor) -> Tensor:
    sobel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]], dtype=torch.float64)
    padded = F.pad(levels.view(1, 1, *levels.shape), (1, 1, 1, 1), mode="replicate")
    along = F.conv2d(padded, torch.stack([sobel, sobel.t()]).unsqueeze(1))
    return torch.hypot(along[0, 0], along[0, 1])
