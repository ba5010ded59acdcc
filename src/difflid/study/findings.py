"""What a study found: every time-step, the two it recommends, and what the latents are worth beside other features."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from difflid.evaluation.results import write_text
from difflid.prior import LatentSpec
from difflid.study.estimates import Estimate
from difflid.study.maps import PrincipalMap
from difflid.study.probes import QUESTIONS, Question
from difflid.study.views import Views

__all__ = ["Choice", "Comparison", "Study", "StudyConfig", "Timestep"]

Scores = Mapping[Question, Sequence[float]]  # R^2 of each fold


@dataclass(frozen=True)
class StudyConfig:
    """What is looked at, and how thoroughly."""

    timesteps: tuple[int, ...] = (0, 50, 100, 200, 300, 500, 700)
    train_photos: int = 1500  # at most so many train the decoders
    validation_photos: int = 100  # at most so many held-out ones are reported on
    versions: int = 8  # hazy versions of each held-out photograph for the probes
    steps: int = 400  # training steps of each decoder
    seed: int = 0


@dataclass(frozen=True)
class Timestep:
    """What the latents of one time-step tell."""

    timestep: int
    views: Views
    latents: Scores
    random_weights: Scores | None  # None: the prior cannot be built anew
    principal: PrincipalMap


@dataclass(frozen=True)
class Choice:
    """The time-step that answers a question best."""

    question: Question
    timestep: int
    score: Estimate
    rivals: tuple[int, ...]  # time-steps that are not told apart from it


@dataclass(frozen=True)
class Comparison:
    """R^2 of the latents at a time-step less that of other features, paired by fold."""

    question: Question
    timestep: int
    against: str
    difference: Estimate

    @property
    def verdict(self) -> str:
        """Say whether the latents are ahead or behind by more than chance."""
        if not self.difference.is_beyond_chance:
            return "level"
        return "ahead" if self.difference.mean > 0 else "behind"


@dataclass(frozen=True)
class Study:
    """All that was found in one prior."""

    spec: LatentSpec
    config: StudyConfig
    train_photos: int
    validation_photos: int
    pixel_statistics: Scores
    timesteps: tuple[Timestep, ...]
    mean_transmission: tuple[float, ...]  # of each point on the maps

    def choice(self, question: Question) -> Choice:
        """Find the time-step whose latents answer best, the smallest of equals."""
        best = max(self.timesteps, key=lambda each: (math.fsum(each.latents[question]), -each.timestep))
        mine = best.latents[question]
        others = [each for each in self.timesteps if each is not best]
        rivals = [
            each.timestep
            for each in others
            if not Estimate.of_difference(mine, each.latents[question]).is_beyond_chance
        ]
        return Choice(question, best.timestep, Estimate.of(mine), tuple(rivals))

    @property
    def content(self) -> Choice:
        """Recommend t1: the time-step that tells best what is behind the haze."""
        return self.choice("cell_content")

    @property
    def haze(self) -> Choice:
        """Recommend t2: the time-step that tells best how dense the haze is at a place."""
        return self.choice("cell_transmission")

    def comparisons(self) -> list[Comparison]:
        """Compare with random weights and pixel statistics, each question at the time-step that answers it best."""
        return [each for question in QUESTIONS for each in self._compare(question)]

    def _compare(self, question: Question) -> list[Comparison]:
        timestep = self.choice(question).timestep
        best = next(each for each in self.timesteps if each.timestep == timestep)
        others = {"random weights": best.random_weights, "pixel statistics": self.pixel_statistics}
        return [
            Comparison(question, timestep, name, Estimate.of_difference(best.latents[question], scores[question]))
            for name, scores in others.items()
            if scores
        ]

    def to_dict(self) -> dict[str, Any]:
        """Give every number in the form of the JSON file."""
        recommended = {"t1": asdict(self.content), "t2": asdict(self.haze)}
        comparisons = [asdict(each) | {"verdict": each.verdict} for each in self.comparisons()]
        return {"recommended": recommended, "comparisons": comparisons, **asdict(self)}

    def save(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write study.json, with what is to be said ``about`` the prior and the software."""
        text = json.dumps({**about, **self.to_dict()}, indent=1, allow_nan=False)
        write_text(folder / "study.json", text + "\n")
