"""gpt/dataset/packing.py: which piece goes into which row, by hand and against the plain way."""

import numpy as np
import pytest

from gpt.dataset.loader import PackedSequences
from gpt.dataset.packing import best_fit, first_fit, pack_sequences
from gpt.tokenizer.special_tokens import IGNORE


def test_packing_by_hand() -> None:
    """Guards: samples cut although they fit, targets learned that cross into the next sample.

    Lengths 3, 2, 2 into rows of 5: the 3 and a 2 share a row, the last 2 has its own.
    """
    samples = [([1, 2], [False, True]), ([3, 4, 5], [False, True, True]), ([6, 7], [True, True])]
    rows, learned = pack_sequences(samples, 5, padding=0)
    assert rows.tolist() == [[3, 4, 5, 1, 2], [6, 7, 0, 0, 0]]
    assert learned.tolist() == [[False, True, True, False, True], [False, True, False, False, False]]
    batches = PackedSequences(rows, learned, seed=0)
    x, y = batches.batch(0, 2)
    by_first = {int(a[0]): b.tolist() for a, b in zip(x, y, strict=True)}
    assert by_first == {3: [4, 5, IGNORE, 2], 6: [7, IGNORE, IGNORE, IGNORE]}


def test_packing_cuts_the_too_long() -> None:
    """Guards: a long chat that overflows, a sample that teaches nothing in a row of its own."""
    rows, _ = pack_sequences([([1] * 9, [True] * 9), ([2, 2], [False, False])], 4, padding=0)
    assert rows.tolist() == [[1, 1, 1, 1]]
    with pytest.raises(ValueError, match="anything to learn"):
        pack_sequences([([2, 2], [False, False])], 4, padding=0)


def plain(lengths: list[int], capacity: int, *, best: bool) -> list[int]:
    """First-fit and best-fit as they are told: look at every row."""
    room: list[int] = []
    home = []
    for length in lengths:
        fitting = [r for r, left in enumerate(room) if left >= length]
        if not fitting:
            room.append(capacity)
            fitting = [len(room) - 1]
        row = min(fitting, key=lambda r: room[r]) if best else fitting[0]
        room[row] -= length
        home.append(row)
    return home


def sums(home: list[int], lengths: list[int]) -> list[int]:
    """How full the rows are: of rows with equal room either may be taken, so their contents may differ."""
    return sorted(np.bincount(home, weights=lengths).astype(int).tolist())


@pytest.mark.parametrize("seed", range(20))
def test_fast_packing_equals_the_plain_way(seed: int) -> None:
    """Guards: a tree that misses the first row, a bulk that passes over a fuller row."""
    rng = np.random.default_rng(seed)
    capacity = int(rng.integers(1, 40))
    lengths = sorted(rng.integers(1, capacity + 1, size=rng.integers(1, 200)).tolist(), reverse=True)
    assert first_fit(lengths, capacity) == plain(lengths, capacity, best=False)
    home = best_fit(np.array(lengths), capacity).tolist()
    assert sums(home, lengths) == sums(plain(lengths, capacity, best=True), lengths)
    assert sorted(set(home)) == list(range(max(home) + 1))


def test_best_fit_by_hand() -> None:
    """Rows of 10. 7 leaves 3; 5 opens a row and leaves 5; the next 5 fills it; a 3 fills the first; two
    of 2 open a third row: 2, 2 and 6 left."""
    assert best_fit(np.array([7, 5, 5, 3, 2, 2]), 10).tolist() == [0, 1, 1, 0, 2, 2]
    assert best_fit(np.array([], dtype=np.int64), 10).tolist() == []
    assert first_fit([7, 5, 5, 3, 2, 2], 10) == [0, 1, 1, 0, 2, 2]
