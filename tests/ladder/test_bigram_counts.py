"""gpt/ladder/bigram_counts: counts, probabilities and losses by hand."""

import math

import numpy as np
import pytest

from gpt.ladder.bigram_counts import (
    CONTEXT,
    SAMPLES,
    batch_losses,
    count_pairs,
    log_probabilities,
    lowest_loss,
    pair_loss,
    starting_loss,
)

IDS = np.array([0, 1, 0, 1, 1, 0])  # pairs 01 10 01 11 10


def test_counts_and_probabilities_by_hand() -> None:
    """Guards: rows and columns exchanged, smoothing of the sum forgotten.

    0 is followed by 1 twice; 1 by 0 twice and by 1 once. Add-1 over two symbols: 1/4 3/4, 3/5 2/5.
    """
    counts = count_pairs(IDS, 2)
    assert counts.tolist() == [[0, 2], [2, 1]]
    assert np.exp(log_probabilities(counts, 1.0)).round(12).tolist() == [[0.25, 0.75], [0.6, 0.4]]
    expected = -(2 * math.log(0.75) + 2 * math.log(0.6) + math.log(0.4)) / 5
    assert pair_loss(counts, log_probabilities(counts, 1.0)) == pytest.approx(expected, rel=1e-12)


def test_no_table_beats_the_lowest_loss() -> None:
    """Guards: a floor that is none. By hand: 0 costs nothing; 1 costs H(2/3, 1/3) three times of five."""
    counts = count_pairs(IDS, 2)
    expected = -(2 * math.log(2 / 3) + math.log(1 / 3)) / 5
    assert lowest_loss(counts) == pytest.approx(expected, rel=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(50):
        table = np.log(rng.dirichlet([1.0, 1.0], size=2))
        assert pair_loss(counts, table) >= lowest_loss(counts)


def test_start_by_hand() -> None:
    """By hand, V = 65: 4.17439 + 0.5 - 1.71828 / 130 = 4.66117."""
    assert starting_loss(65) == pytest.approx(4.66117, abs=1e-5)


def test_single_batches_scatter_around_the_whole() -> None:
    """Guards: windows past the end, a mean over the wrong axis, a seed without effect.

    With one loss for every position each batch costs exactly that; else their mean is the whole's loss.
    """
    ids = np.random.default_rng(0).integers(5, size=4000)
    flat = np.full((5, 5), -math.log(5))
    assert np.allclose(batch_losses(ids, flat, n_batches=20, seed=0), math.log(5))
    table = np.log(np.random.default_rng(1).dirichlet(np.ones(5), size=5))
    found = batch_losses(ids, table, n_batches=2000, seed=0)
    whole = pair_loss(count_pairs(ids, 5), table)
    standard_error = (-table[ids[:-1], ids[1:]]).std() / (SAMPLES * CONTEXT * 2000) ** 0.5
    assert abs(found.mean() - whole) < 5 * standard_error
    assert found.min() < whole < found.max()
    assert np.array_equal(found, batch_losses(ids, table, n_batches=2000, seed=0))
    assert not np.array_equal(found, batch_losses(ids, table, n_batches=2000, seed=1))


def test_an_unsmoothed_table_is_refused() -> None:
    """Guards: an infinite loss from one unseen pair."""
    with pytest.raises(ValueError, match=r"k: must be positive, got 0\.0"):
        log_probabilities(count_pairs(IDS, 2), 0.0)
