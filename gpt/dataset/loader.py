"""Batches as a pure function of a cursor: one integer, the number of samples consumed so far.

The order is a fresh permutation of all samples each epoch, drawn from (seed, epoch): the same for any
number of ranks and after any resume. Windows of a token stream also start at another offset each epoch,
so no boundary between windows is a boundary twice.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gpt.dataset.shard_set import TokenStream
from gpt.tokenizer.special_tokens import IGNORE


class Batches(Protocol):
    """Where the training loop gets its samples."""

    def batch(self, cursor: int, count: int) -> tuple[Tensor, Tensor]:
        """Return token_ids and targets (count, T) of samples cursor..cursor+count-1."""


class GlobalShuffle:
    """position -> (epoch, sample) for n samples."""

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self.seed = seed
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def __call__(self, position: int) -> tuple[int, int]:
        """Return the epoch and the sample at a position of the endless order."""
        epoch, index = divmod(position, self.n)
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.n)
            self._epoch = epoch
        return epoch, int(self._order[index])


class TokenWindows:
    """Windows of seq_len tokens out of one token stream, globally shuffled."""

    def __init__(self, tokens: np.ndarray | TokenStream, seq_len: int, seed: int) -> None:
        # every offset in 0..seq_len-1 must leave room for n windows and the target after the last
        n = (len(tokens) - 1 - (seq_len - 1)) // seq_len
        if n < 1:
            raise ValueError(
                f"seq_len: the corpus has {len(tokens)} tokens, too few for a context of {seq_len}; "
                f"add text or lower seq_len to {max(1, len(tokens) // 2)}"
            )
        self.tokens = tokens
        self.seq_len = seq_len
        self.shuffle = GlobalShuffle(n, seed)

    def offset(self, epoch: int) -> int:
        """Return where the epoch's first window starts."""
        return int(np.random.default_rng([self.shuffle.seed, epoch, 1]).integers(self.seq_len))

    def batch(self, cursor: int, count: int) -> tuple[Tensor, Tensor]:
        """Return token_ids and targets (count, T); targets are the tokens one further."""
        windows = []
        for position in range(cursor, cursor + count):
            epoch, sample = self.shuffle(position)
            start = self.offset(epoch) + sample * self.seq_len
            windows.append(np.asarray(self.tokens[start : start + self.seq_len + 1], dtype=np.int64))
        block = torch.from_numpy(np.stack(windows))  # (count, T + 1)
        return block[:, :-1].contiguous(), block[:, 1:].contiguous()


class PackedSequences:
    """Fixed sequences (N, T + 1) with a mask of what is learned, globally shuffled."""

    def __init__(self, sequences: np.ndarray, learned: np.ndarray, seed: int) -> None:
        self.sequences = sequences
        self.learned = learned
        self.shuffle = GlobalShuffle(len(sequences), seed)

    def batch(self, cursor: int, count: int) -> tuple[Tensor, Tensor]:
        """Return token_ids and targets (count, T); targets that are not learned are IGNORE."""
        rows = [self.shuffle(position)[1] for position in range(cursor, cursor + count)]
        block = torch.from_numpy(self.sequences[rows].astype(np.int64))  # (count, T + 1)
        mask = torch.from_numpy(self.learned[rows])
        targets = block[:, 1:].masked_fill(~mask[:, 1:], IGNORE)
        return block[:, :-1].contiguous(), targets.contiguous()
