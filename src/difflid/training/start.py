"""A training that begins with the weights of a model, of its own size or of a smaller one."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difflid.dehazer import Dehazer, DehazerConfig
from difflid.errors import ModelError
from difflid.network import DiffLI2DConfig
from difflid.prior import UNetPrior

__all__ = ["start_from"]

STEM = "guide.stem.weight"
COARSE = {"coarse_haze.weight", "coarse_haze.bias"}  # count from elsewhere in smoke
PARTS = "guide_zoom", "guide_contrast", "guide_smoke", "guide_reviews", "guide_glow"  # which a network lacks by default
DEPTHS = "guide_blocks", "guide_middle"  # of which a network can have more


def start_from(name: str, model: nn.Module, settings: DehazerConfig, prior: UNetPrior) -> None:
    """Give ``model`` the weights of another one that has the recipe's prior and configuration.

    Parts that the other one lacks start as in a new network; of its own, levels, reviews and glow may be lacking in
    the recipe. A guide branch that is wider, up to twice, or deeper gives what the other one gives, until it learns.
    """
    other = Dehazer.from_pretrained(name)
    weights, before, network = other.network.state_dict(), other.config.network, settings.network
    new = [key for key in PARTS if getattr(before, key) == getattr(DiffLI2DConfig, key)]
    new += [] if before.levels else ["levels"]
    free = new + [key for key in ("levels", "guide_reviews", "guide_glow") if not getattr(network, key)]
    free += [key for key in DEPTHS if getattr(before, key) <= getattr(network, key)]
    if before.guide_width <= network.guide_width <= 2 * before.guide_width:
        free.append("guide_width")
    before = replace(before, **{key: getattr(network, key) for key in free})
    config = replace(other.config, network=before, mirrored=settings.mirrored)
    if config != settings:
        ours, theirs = _differences(asdict(settings), asdict(config))
        raise ModelError(f"cannot start from {name}: it has {theirs}, the recipe {ours}; make the recipe equal")
    if not _same_prior(cast(UNetPrior, other.prior), prior):
        raise ModelError(f"cannot start from {name}: its prior is another one; let the recipe name that prior's folder")
    if "guide_zoom" in new and network.guide_zoom > 1:
        weights[STEM] = F.pad(weights[STEM], (0, 0, 0, 0, 0, 6))  # mean, then least and greatest
    fresh = model.state_dict()
    other_start = COARSE if "guide_smoke" in new and network.guide_smoke else set()
    known = [key for key in fresh if key in weights and key not in other_start]  # in order: `_grown` draws at random
    model.load_state_dict(fresh | {key: _grown(weights[key], fresh[key]) for key in known})


def _grown(weight: Tensor, fresh: Tensor) -> Tensor:
    """Widen a layer, (out, in, ...), so that it computes the same: the last channels are there once more.

    What takes them in is dealt out to both at random, and so they learn apart (Chen, Goodfellow & Shlens, "Net2Net",
    ICLR 2016, section 2.2).
    """
    for side, size in enumerate(fresh.shape[:2]):
        more = size - weight.shape[side]
        once, twice = weight.split((weight.shape[side] - more, more), dim=side)
        copy = twice if side == 0 else torch.rand_like(twice) * twice
        weight = torch.cat((once, twice if side == 0 else twice - copy, copy), dim=side)
    return weight


def _same_prior(one: UNetPrior, other: UNetPrior) -> bool:
    """Compare as float16, the type in which models keep their priors."""
    if one.config != other.config:
        return False
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a.cpu().half(), b.cpu().half()) for a, b in pairs)


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keep what differs, the tables of the network side by side with the time-steps."""
    ours, theirs = ({**tree, **tree["network"]} for tree in (ours, theirs))
    keys = [key for key in ours if key != "network" and ours[key] != theirs[key]]
    return {key: ours[key] for key in keys}, {key: theirs[key] for key in keys}
