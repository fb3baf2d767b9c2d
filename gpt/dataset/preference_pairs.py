"""Pairs of sequences as batches: sample 2i is a pair's chosen side, sample 2i + 1 its rejected one.

A row holds one text from its first token on, so that no position and no padding depends on the other side;
padding stands behind it, where causal attention does not look. The sides are neither packed nor cut.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gpt.dataset.loader import GlobalShuffle, split_rows
from gpt.dataset.packing import Masked


class PreferencePairs:
    """Pairs, globally shuffled; every batch holds whole pairs."""

    def __init__(
        self, chosen: Sequence[Masked], rejected: Sequence[Masked], *, padding: int, seed: int
    ) -> None:
        assert len(chosen) == len(rejected) > 0, (len(chosen), len(rejected))
        self.sides = [side for pair in zip(chosen, rejected, strict=True) for side in pair]
        self.padding = padding
        self.shuffle = GlobalShuffle(len(chosen), seed)
        self.reference: Tensor | None = None
        """Log-probability of each side under the reference model, (2 n,); None until it is known."""

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.sides) // 2

    def rows(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return token_ids and targets (B, T) of sides, as wide as the longest; padding is IGNORE.

        The last token of a text is in token_ids too: a reward model reads it.
        """
        length = max(len(self.sides[i][0]) for i in indices) + 1
        ids = np.full((len(indices), length), self.padding, dtype=np.int64)
        learned = np.zeros((len(indices), length), dtype=bool)
        for row, i in enumerate(indices):
            text, mask = self.sides[i]
            ids[row, : len(text)], learned[row, : len(text)] = text, mask
        return split_rows(ids, learned)

    def batch(self, cursor: int, count: int) -> tuple[Tensor, ...]:
        """Return token_ids, targets (count, T), and the reference's log-probabilities (count,) if known.

        Cursor and count must be even.
        """
        assert cursor % 2 == count % 2 == 0, (cursor, count)
        _, pairs = self.shuffle(cursor // 2, count // 2)
        indices = [2 * pair + side for pair in pairs.tolist() for side in (0, 1)]
        token_ids, targets = self.rows(indices)
        if self.reference is None:
            return token_ids, targets
        return token_ids, targets, self.reference[torch.tensor(indices)]
