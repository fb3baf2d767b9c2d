"""gpt/dataset/packed_documents.py: whole documents in rows, each of their tokens a target once."""

import numpy as np
import pytest
import torch

from gpt.dataset.packed_documents import PackedDocuments, cut_documents
from gpt.tokenizer.special_tokens import IGNORE

END, T = 0, 8


def corpus(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens 1, 2, 3... with END closing each document, and where the documents start."""
    tokens = np.arange(1, sum(lengths) + 1, dtype=np.uint16)
    ends = np.cumsum(lengths)
    tokens[ends - 1] = END
    return tokens, ends - lengths


LENGTHS = np.random.default_rng(0).integers(1, 30, size=200).tolist()


def packed(seed: int = 1) -> PackedDocuments:
    return PackedDocuments(*corpus(LENGTHS), T, seed, padding=END)


def test_cutting_by_hand() -> None:
    """T = 8, pieces of at most 9 that share a token: 9 -> 9; 10 -> 9 + 2; 17 -> 9 + 9; 1 -> none."""
    starts, lengths = cut_documents(np.array([0, 9, 19, 36]), 37, T)
    assert starts.tolist() == [0, 9, 17, 19, 27]
    assert lengths.tolist() == [9, 9, 2, 9, 9]


def test_rows_by_hand() -> None:
    """Documents of 4, 3 and 2 tokens fill a row of 9: 1 2 3 0 | 5 6 0 | 8 0; no target crosses a border."""
    batches = PackedDocuments(*corpus([4, 3, 2]), T, seed=1, padding=END)
    x, y = batches.batch(0, 1)
    assert x.tolist() == [[1, 2, 3, 0, 5, 6, 0, 8]]
    assert y.tolist() == [[2, 3, 0, IGNORE, 6, 0, IGNORE, 0]]
    assert batches.padding_share == 0
    short = PackedDocuments(*corpus([4, 3]), T, seed=1, padding=END)
    x, y = short.batch(0, 1)
    assert y.tolist() == [[2, 3, 0, IGNORE, 6, 0, IGNORE, IGNORE]]
    assert short.padding_share == pytest.approx(2 / 9)


def test_an_epoch_learns_every_token_once() -> None:
    """Guards: a document cut although it fits, a token lost where one is cut, padding that is learned."""
    batches = packed()
    tokens, starts = corpus(LENGTHS)
    firsts = set(starts.tolist())
    expected = sorted(int(t) for i, t in enumerate(tokens) if i not in firsts)
    for epoch in range(3):
        _, y = batches.batch(epoch * batches.shuffle.n, batches.shuffle.n)
        assert sorted(y[y != IGNORE].tolist()) == expected
        used = np.concatenate([batches.pieces(epoch, row) for row in range(batches.shuffle.n)])
        assert sorted(used.tolist()) == list(range(len(batches.piece_starts)))
    whole = [length for length in LENGTHS if 1 < length <= T + 1]
    assert len(whole) > 20
    starts_of_pieces = dict(zip(batches.piece_starts.tolist(), batches.piece_lengths.tolist(), strict=True))
    for start, length in zip(starts.tolist(), LENGTHS, strict=True):
        if 1 < length <= T + 1:
            assert starts_of_pieces[start] == length


def test_every_border_inside_a_row_is_an_end_of_text() -> None:
    """Guards: two documents in a row with nothing between them: their mask is derived from end-of-text."""
    batches = packed()
    for row in range(batches.shuffle.n):
        for piece in batches.pieces(0, row)[:-1]:
            end = batches.piece_starts[piece] + batches.piece_lengths[piece]
            assert batches.tokens[int(end) - 1 : int(end)][0] == END


def test_company_changes_and_the_order_resumes() -> None:
    """Guards: rows that repeat each epoch; rows that depend on what was read before."""
    batches = packed()
    n = batches.shuffle.n
    rows = [{tuple(sorted(batches.pieces(epoch, row).tolist())) for row in range(n)} for epoch in range(2)]
    shared = [row for row in rows[0] if len(row) > 1]
    assert len(shared) > 20
    assert sum(row in rows[1] for row in shared) < 0.3 * len(shared)
    whole = torch.cat([batches.batch(i, 1)[0] for i in range(2 * n + 5)])
    late = packed()
    assert torch.equal(late.batch(n - 3, 6)[0], whole[n - 3 : n + 3])
    assert not torch.equal(packed(seed=2).batch(0, n)[0], whole[:n])


def test_nothing_to_predict_is_refused() -> None:
    """Guards: an epoch of no rows."""
    with pytest.raises(ValueError, match="packing: no document has two tokens"):
        PackedDocuments(np.zeros(3, dtype=np.uint16), np.arange(3), T, 0, padding=END)
