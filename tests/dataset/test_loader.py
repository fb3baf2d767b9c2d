"""gpt/dataset/loader.py: the order of samples is a pure function of the cursor."""

import numpy as np
import pytest
import torch

from gpt.dataset.loader import GlobalShuffle, PackedSequences, TokenWindows
from gpt.dataset.packing import pack_sequences
from gpt.tokenizer.special_tokens import IGNORE

TOKENS = np.arange(1000)


def test_every_sample_once_an_epoch_in_a_new_order() -> None:
    """Guards: repeated or skipped samples, and the same order every epoch."""
    shuffle = GlobalShuffle(50, seed=3)
    epochs = [[shuffle(e * 50 + i)[1] for i in range(50)] for e in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_order_is_the_same_for_any_batching_and_after_any_resume() -> None:
    """Guards: samples that depend on the number of ranks, or on how far one had read before."""
    whole, _ = TokenWindows(TOKENS, 7, seed=5).batch(0, 400)  # more than two epochs
    fresh = TokenWindows(TOKENS, 7, seed=5)
    late, _ = fresh.batch(301, 3)  # a resumed run begins in the middle
    assert torch.equal(late, whole[301:304])
    ranks = [TokenWindows(TOKENS, 7, seed=5) for _ in range(4)]
    pieces = [ranks[r].batch(step * 8 + r * 2, 2)[0] for step in range(50) for r in range(4)]
    assert torch.equal(torch.cat(pieces), whole)


def test_windows_stay_inside_and_move_each_epoch() -> None:
    """Guards: S3's periodicity fault: the same window boundaries, epoch after epoch."""
    windows = TokenWindows(TOKENS, 16, seed=1)
    starts = []
    for epoch in range(20):
        x, y = windows.batch(epoch * windows.shuffle.n, windows.shuffle.n)
        assert torch.equal(x + 1, y)
        assert y.max() <= 999
        starts.append(int(x[:, 0].min()))
    assert len(set(starts)) > 8
    assert all(0 <= start < 16 for start in starts)


def test_too_short_a_corpus_names_the_dial() -> None:
    """Guards: an empty epoch and a division by zero."""
    with pytest.raises(ValueError, match=r"seq_len: the corpus has 20 tokens.*lower seq_len to 10"):
        TokenWindows(np.arange(20), 16, seed=0)


def test_packing_by_hand() -> None:
    """Guards: samples cut although they fit, targets learned that cross into the next sample.

    Lengths 3, 2, 2 into rows of 5: the 3 and a 2 share a row, the last 2 has its own.
    """
    samples = [([1, 2], [False, True]), ([3, 4, 5], [False, True, True]), ([6, 7], [True, True])]
    rows, learned, cut = pack_sequences(samples, 5, padding=0)
    assert rows.tolist() == [[3, 4, 5, 1, 2], [6, 7, 0, 0, 0]]
    assert learned.tolist() == [[False, True, True, False, True], [False, True, False, False, False]]
    assert cut == 0
    batches = PackedSequences(rows, learned, seed=0)
    x, y = batches.batch(0, 2)
    by_first = {int(a[0]): b.tolist() for a, b in zip(x, y, strict=True)}
    assert by_first == {3: [4, 5, IGNORE, 2], 6: [7, IGNORE, IGNORE, IGNORE]}


def test_packing_cuts_and_counts_the_too_long() -> None:
    """Guards: a long chat dropped or overflowing without a word."""
    rows, _, cut = pack_sequences([([1] * 9, [True] * 9), ([2, 2], [False, False])], 4, padding=0)
    assert rows.tolist() == [[1, 1, 1, 1]]
    assert cut == 1
    with pytest.raises(ValueError, match="anything to learn"):
        pack_sequences([([2, 2], [False, False])], 4, padding=0)
