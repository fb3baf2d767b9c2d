"""S3's fault: a loader that repeats itself each epoch, which the loss then shows as a wave.

Sequential windows with fixed borders put the same tokens at the same distance, epoch after epoch. The
figures below find that in such a loader, written here, and do not find it in ours.
"""

from collections.abc import Callable

import numpy as np
import pytest

from gpt.dataset import loader
from gpt.dataset.loader import TokenWindows

T, N_EPOCHS = 16, 12
TOKENS = np.arange(16 * 500 + 16)
"""Each token is its own position: a batch shows where it was read."""

Starts = Callable[[int, int], np.ndarray]


def naive_starts(cursor: int, count: int) -> np.ndarray:
    """Windows one behind the other, again from the first when the corpus ends."""
    return np.arange(cursor, cursor + count) % (len(TOKENS) // T) * T


def our_starts(cursor: int, count: int) -> np.ndarray:
    """What TokenWindows reads, from its batches."""
    x, y = TokenWindows(TOKENS, T, seed=3).batch(cursor, count)
    assert (y == x + 1).all()
    return x[:, 0].numpy()


def n_samples() -> int:
    return TokenWindows(TOKENS, T, seed=3).shuffle.n


def repeated_borders(starts: Starts, n: int) -> float:
    """Share of the epochs after the first whose borders are an earlier epoch's."""
    borders = [frozenset((starts(epoch * n, n) % T).tolist()) for epoch in range(N_EPOCHS)]
    return sum(border in borders[:i] for i, border in enumerate(borders) if i) / (N_EPOCHS - 1)


def distances(starts: Starts, n: int) -> np.ndarray:
    """Samples between two readings of one place (T tokens wide), over all places and epochs."""
    place = starts(0, n * N_EPOCHS) // T
    last: dict[int, int] = {}
    found = []
    for position, at in enumerate(place.tolist()):
        if at in last:
            found.append(position - last[at])
        last[at] = position
    return np.array(found)


def wave(starts: Starts, n: int) -> float:
    """Correlation, in standard errors, of what is read with what was read one epoch before.

    The place in the corpus stands for how hard its text is: this is the wave that a loss would show.
    """
    place = starts(0, n * N_EPOCHS).astype(float)
    place = (place - place.mean()) / place.std()
    pairs = place[:-n] * place[n:]
    return float(pairs.mean() * np.sqrt(len(pairs)))


def test_the_naive_loader_has_the_fault() -> None:
    """Guards the tests below: figures that never find anything."""
    n = len(TOKENS) // T
    assert repeated_borders(naive_starts, n) == 1
    assert set(distances(naive_starts, n)) == {n}
    assert wave(naive_starts, n) > 50


@pytest.mark.parametrize("limit", [2**20, 1], ids=["stored", "computed"])
def test_ours_has_not(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: the same borders, the same order or the same distance, epoch after epoch. 12 offsets out of
    16 give some twice: on average 4 of 11 have been drawn before."""
    monkeypatch.setattr(loader, "STORED_LIMIT", limit)
    n = n_samples()
    assert n == 500
    assert repeated_borders(our_starts, n) < 0.7
    found = distances(our_starts, n)
    assert len(set(found.tolist())) > 400
    assert 0.3 * n < found.std() < 0.6 * n  # two independent shuffles: n / sqrt(6)
    assert abs(wave(our_starts, n)) < 4


@pytest.mark.parametrize("limit", [2**20, 1], ids=["stored", "computed"])
def test_an_epoch_reads_every_token_once(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: windows that overlap or leave holes. All tokens but fewer than T at the two ends."""
    monkeypatch.setattr(loader, "STORED_LIMIT", limit)
    n = n_samples()
    for epoch in range(N_EPOCHS):
        starts = our_starts(epoch * n, n)
        assert len(set(starts.tolist())) == n
        read = (starts[:, None] + np.arange(T)).ravel()
        assert len(np.unique(read)) == len(read) == n * T
        assert read.max() - read.min() == n * T - 1
        assert len(TOKENS) - len(read) <= T
