"""One figure with its standard error and what it was counted over."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A measured figure, or the reason why there is none."""

    metric: str
    value: float | None
    stderr: float | None
    """None where a single observation gives none."""
    n: int
    """Observations."""
    unit: str
    """What one observation is: window, record, item."""
    chance: float | None = None
    """What guessing gives, where that is known."""
    absent: str | None = None
    """Why there is no value."""


def ratio_score(
    metric: str,
    numerators: Sequence[float],
    denominators: Sequence[float],
    unit: str,
    chance: float | None = None,
) -> Score:
    """Return sum(numerators) / sum(denominators) with the standard error of a ratio estimator.

    Observations are taken as independent (Cochran 1977, section 2.11, without the finite population
    factor). With denominators of 1 it is the mean and the usual s / sqrt(n). Raises ValueError when the
    denominators sum to 0.
    """
    n, total = len(numerators), sum(denominators)
    if total <= 0:
        raise ValueError(f"{metric}: no {unit} to measure on; raise its number in section evaluate")
    value = sum(numerators) / total
    stderr = None
    if n > 1:
        residual = sum((a - value * b) ** 2 for a, b in zip(numerators, denominators, strict=True))
        stderr = math.sqrt(n / (n - 1) * residual) / total
    return Score(metric=metric, value=value, stderr=stderr, n=n, unit=unit, chance=chance)


def absent_score(metric: str, reason: str, unit: str) -> Score:
    """Return the score of something that could not be measured here."""
    return Score(metric=metric, value=None, stderr=None, n=0, unit=unit, absent=reason)


def evenly(things: Sequence[T], limit: int) -> list[T]:
    """Return `limit` of the things, evenly spread and in order; all of them for 0 or when fewer.

    >>> evenly("abcdefgh", 3)
    ['b', 'e', 'g']
    """
    n = len(things)
    if limit == 0 or limit >= n:
        return list(things)
    return [things[(2 * i + 1) * n // (2 * limit)] for i in range(limit)]
