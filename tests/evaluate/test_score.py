"""Standard errors, by hand."""

import math

import pytest

from gpt.evaluate.score import absent_score, evenly, ratio_score


def test_mean_and_its_standard_error() -> None:
    """1, 2, 3: mean 2, s = 1, standard error 1/sqrt(3). Guards the population form (n instead of n - 1)."""
    score = ratio_score("loss", [1.0, 2.0, 3.0], [1, 1, 1], "window")
    assert score.value == 2
    assert score.stderr == pytest.approx(1 / math.sqrt(3))
    assert (score.n, score.unit) == (3, "window")


def test_unequal_sizes_weigh_by_size() -> None:
    """(2 + 9) / (1 + 3) = 2.75; residuals 2 - 2.75 and 9 - 8.25 are -+0.75; sqrt(2 * 1.125) / 4 = 0.375.

    Guards the mean of per-window means, in which a short last window counts as much as a whole one.
    """
    score = ratio_score("loss", [2.0, 9.0], [1, 3], "window")
    assert score.value == 2.75
    assert score.stderr == pytest.approx(0.375)


def test_one_observation_has_no_standard_error() -> None:
    """Guards 0/0, and a 0 that would claim certainty. Nothing to measure on is refused."""
    assert ratio_score("loss", [3.0], [2], "window").stderr is None
    with pytest.raises(ValueError, match="loss: no window to measure on"):
        ratio_score("loss", [], [], "window")


def test_absent_has_no_value() -> None:
    """Guards an absent benchmark that reads as a score of 0."""
    score = absent_score("hellaswag", "not fetched", "item")
    assert (score.value, score.stderr, score.n, score.absent) == (None, None, 0, "not fetched")


def test_evenly_spreads() -> None:
    """By hand: the middles of three thirds of 9 are 1, 4, 7. Guards taking the first n, all of one kind."""
    assert evenly(range(9), 3) == [1, 4, 7]
    assert evenly(range(3), 0) == [0, 1, 2]
    assert evenly(range(3), 7) == [0, 1, 2]
