"""Whole documents in rows of T + 1 tokens, best-fit by decreasing length; only longer ones are cut.

A cut document's pieces share one token, so that each of its tokens but the first is a target once; only
its last piece may share a row. Which documents share a row is dealt anew each epoch among those of equal
length: the rows' shape stays, their company does not. Memory is a few integers a piece; tokens stay
where they are.
"""

import numpy as np
from torch import Tensor

from gpt.dataset.loader import GlobalShuffle, TokenSource, split_rows
from gpt.dataset.packing import best_fit


class PackedDocuments:
    """Documents of a token stream, packed and globally shuffled.

    A target is never in another document than the token it follows: the first token of a piece is none.
    """

    def __init__(
        self, tokens: TokenSource, document_starts: np.ndarray, seq_len: int, seed: int, *, padding: int
    ) -> None:
        self.tokens = tokens
        self.seq_len = seq_len
        self.padding = padding
        self.n_documents = len(document_starts)
        self.piece_starts, self.piece_lengths = cut_documents(document_starts, len(tokens), seq_len)
        if not len(self.piece_starts):
            raise ValueError("packing: no document has two tokens; add text or set packing: windows")
        lengths = -np.sort(-self.piece_lengths)  # of the places, longest first
        rows = best_fit(lengths, seq_len + 1)
        self._places = np.argsort(rows, kind="stable")
        self._row_ends = np.cumsum(np.bincount(rows))
        self.shuffle = GlobalShuffle(len(self._row_ends), seed)
        self._dealt: tuple[int, np.ndarray] | None = None

    @property
    def padding_share(self) -> float:
        """Share of the rows' tokens that is padding."""
        return 1 - float(self.piece_lengths.sum()) / (self.shuffle.n * (self.seq_len + 1))

    def batch(self, cursor: int, count: int) -> tuple[Tensor, Tensor]:
        """Return token_ids and targets (count, T); padding and first tokens of pieces are IGNORE."""
        rows = np.full((count, self.seq_len + 1), self.padding, dtype=np.int64)
        learned = np.zeros(rows.shape, dtype=bool)
        epochs, samples = self.shuffle(cursor, count)
        for i, (epoch, sample) in enumerate(zip(epochs.tolist(), samples.tolist(), strict=True)):
            at = 0
            for piece in self.pieces(epoch, sample).tolist():
                start, length = int(self.piece_starts[piece]), int(self.piece_lengths[piece])
                rows[i, at : at + length] = self.tokens[start : start + length]
                learned[i, at + 1 : at + length] = True
                at += length
        return split_rows(rows, learned)

    def pieces(self, epoch: int, row: int) -> np.ndarray:
        """Return the pieces of a row in their order."""
        first = self._row_ends[row - 1] if row else 0
        return self._deal(epoch)[self._places[first : self._row_ends[row]]]

    def _deal(self, epoch: int) -> np.ndarray:
        """Return the piece at each place: all of them by decreasing length, equal ones in random order."""
        dealt = self._dealt
        if dealt is None or dealt[0] != epoch:
            mixed = np.random.default_rng([self.shuffle.seed, epoch, 2]).permutation(len(self.piece_lengths))
            dealt = (epoch, mixed[np.argsort(-self.piece_lengths[mixed], kind="stable")])
            self._dealt = dealt
        return dealt[1]


def cut_documents(document_starts: np.ndarray, n_tokens: int, seq_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Return start int64 and length int32 of every piece of at most seq_len + 1 tokens.

    A document of one token, its end, has nothing to predict and gives none.
    """
    starts = np.asarray(document_starts, dtype=np.int64)
    lengths = np.diff(starts, append=n_tokens)
    counts = np.maximum(-(-(lengths - 1) // seq_len), 0)  # pieces of each document
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # within its document
    piece_lengths = np.minimum(np.repeat(lengths, counts) - number * seq_len, seq_len + 1)
    return np.repeat(starts, counts) + number * seq_len, piece_lengths.astype(np.int32)
