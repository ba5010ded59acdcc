"""Means with their errors, and when two of them differ by more than chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

__all__ = ["Estimate"]

BEYOND = 2.776  # standard errors: the 95 % interval of the mean of five folds (Student, 4 degrees of freedom)


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float] | Tensor) -> Self:
        """Average independent values, at least two."""
        numbers = [float(value) for value in values]
        mean = math.fsum(numbers) / len(numbers)
        variance = math.fsum((value - mean) ** 2 for value in numbers) / (len(numbers) - 1)
        return cls(mean, math.sqrt(variance / len(numbers)))

    @classmethod
    def of_difference(cls, one: Sequence[float], other: Sequence[float]) -> Self:
        """Average the differences of scores of the same folds."""
        return cls.of([a - b for a, b in zip(one, other, strict=True)])

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the mean of five folds differs from zero by more than chance."""
        return abs(self.mean) > BEYOND * self.error

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.error:.3f}"
