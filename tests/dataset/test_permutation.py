"""gpt/dataset/permutation.py: every number once, and no structure that a training run could show."""

import math

import numpy as np
import pytest

from gpt.dataset.permutation import FeistelPermutation

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 100, *(2**b + d for b in (10, 11, 16, 17) for d in (-1, 0, 1))]
N = 1_500_007
"""Odd and far from a power of two: a third of the network's range is walked over."""


@pytest.mark.parametrize("n", SIZES)
def test_every_number_once(n: int) -> None:
    """Guards: a sample skipped or read twice, at the sizes where halves and masks are off by one."""
    sent = FeistelPermutation(n, [1, 2])(np.arange(n))
    assert sent.dtype == np.int64
    assert np.array_equal(np.sort(sent), np.arange(n))


def test_one_by_one_equals_at_once() -> None:
    """Guards: an order that depends on the size of the batch it is asked in; one for all seeds."""
    permutation = FeistelPermutation(N, [3, 4])
    index = np.random.default_rng(0).integers(N, size=200)
    whole = permutation(index)
    assert [int(permutation(index[i : i + 1])[0]) for i in range(200)] == whole.tolist()
    assert np.array_equal(FeistelPermutation(N, [3, 4])(index), whole)
    for other in ([3, 5], [4, 4]):
        assert (FeistelPermutation(N, other)(index) == whole).sum() <= 2


def deviations(order: np.ndarray) -> dict[str, float]:
    """How far an order is from random, in standard errors: of neighbours and of the way they lie.

    Cells: pairs of neighbours fall evenly into 64 x 64 cells; their chi-square has mean df = 4095 and
    variance 2 df. Steps: the differences of neighbours modulo n fall evenly into 1,024 cells.
    """
    n = len(order)
    x = order / (n - 1) - 0.5
    correlation = {
        f"lag {lag}": float((x[:-lag] * x[lag:]).mean() * 12) * math.sqrt(n - lag) for lag in (1, 2, 1024)
    }
    correlation["place"] = float((x * (np.arange(n) / (n - 1) - 0.5)).mean() * 12) * math.sqrt(n)
    cell = order * 64 // n
    pairs = np.bincount(cell[:-1] * 64 + cell[1:], minlength=4096)
    steps = np.bincount((order[1:] - order[:-1]) % n * 1024 // n, minlength=1024)
    chi = {}
    for name, seen in (("cells", pairs), ("steps", steps)):
        expected, df = (n - 1) / len(seen), len(seen) - 1
        chi[name] = float(((seen - expected) ** 2 / expected).sum() - df) / math.sqrt(2 * df)
    return correlation | chi


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_shows_no_structure(seed: int) -> None:
    """Guards: too few rounds, a mixing function that leaves bits alone. 18 figures below 4 sigma."""
    figures = deviations(FeistelPermutation(N, [seed, 0])(np.arange(N)))
    assert max(map(abs, figures.values())) < 4, figures


def test_structure_is_seen() -> None:
    """Guards the test above: multiplication modulo n is a bijection too, and no shuffle."""
    affine = np.arange(N) * 1_000_003 % N
    assert max(map(abs, deviations(affine).values())) > 100
    numpy_s = np.random.default_rng(0).permutation(N)
    assert max(map(abs, deviations(numpy_s).values())) < 4


def test_huge_ranges_start_at_once() -> None:
    """Guards: an overflow beyond 32 bits. 10^12 samples hold no array; each comes back at its own place."""
    permutation = FeistelPermutation(10**12, [1])
    sent = permutation(np.array([0, 1, 10**12 - 1]))
    assert len(set(sent.tolist())) == 3
    assert ((sent >= 0) & (sent < 10**12)).all()
