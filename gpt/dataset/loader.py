"""Batches as a pure function of a cursor: one integer, the number of samples consumed so far.

The order is a fresh permutation of all samples each epoch, drawn from (seed, epoch): the same for any
number of ranks and after any resume. Windows of a token stream also start at another offset each epoch,
so no boundary between windows is a boundary twice.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gpt.dataset.permutation import FeistelPermutation
from gpt.tokenizer.special_tokens import IGNORE

STORED_LIMIT = 2**20
"""Most samples whose order is kept as an array (8 MiB, drawn in some 30 ms); beyond, it is computed."""


class Batches(Protocol):
    """Where the training loop gets its samples. One thread reads it at a time, not always the same one.

    Batches that depend on the weights say `reads_ahead = False`: they are read when a step needs them.
    """

    def batch(self, cursor: int, count: int) -> tuple[Tensor, ...]:
        """Return token_ids and targets (count, T) of samples cursor..cursor+count-1, and what else
        an objective reads."""


def may_read_ahead(batches: Batches) -> bool:
    """Return whether a batch may be made before the steps in front of it are done."""
    return getattr(batches, "reads_ahead", True)


class TokenSource(Protocol):
    """Tokens on disk or in memory: an array, or shards one behind the other."""

    def __len__(self) -> int: ...

    def __getitem__(self, span: slice, /) -> np.ndarray: ...


class GlobalShuffle:
    """position -> (epoch, sample) for n samples."""

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self.seed = seed
        self._latest: tuple[int, np.ndarray | FeistelPermutation] | None = None

    def __call__(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the epochs and the samples, int64 (count,), at the positions from `first` on."""
        epochs, indices = np.divmod(np.arange(first, first + count), self.n)
        samples = np.empty_like(indices)
        for epoch in np.unique(epochs):
            here, order = epochs == epoch, self._order(int(epoch))
            samples[here] = order[indices[here]] if isinstance(order, np.ndarray) else order(indices[here])
        return epochs, samples

    def _order(self, epoch: int) -> np.ndarray | FeistelPermutation:
        latest = self._latest  # read once: validation may ask from another thread
        if latest is None or latest[0] != epoch:
            seed = [self.seed, epoch]
            if self.n <= STORED_LIMIT:
                latest = (epoch, np.random.default_rng(seed).permutation(self.n))
            else:
                latest = (epoch, FeistelPermutation(self.n, seed))
            self._latest = latest
        return latest[1]


class RankSlice:
    """One rank's share of every batch: `rank` of `world_size` equal pieces, in order.

    Only its own samples are read. The pieces of all ranks, one behind the other, are the batch of one rank.
    """

    def __init__(self, batches: Batches, *, rank: int, world_size: int) -> None:
        assert 0 <= rank < world_size, (rank, world_size)
        self.batches = batches
        self.rank = rank
        self.world_size = world_size
        self.reads_ahead = may_read_ahead(batches)

    def batch(self, cursor: int, count: int) -> tuple[Tensor, ...]:
        """Return token_ids and targets (count / W, T). Raises ValueError when W does not divide count."""
        if count % self.world_size:
            raise ValueError(
                f"micro_batch_size: {count} samples do not divide among {self.world_size} ranks; "
                f"write {-(-count // self.world_size) * self.world_size}"
            )
        own = count // self.world_size
        return self.batches.batch(cursor + self.rank * own, own)


class TokenWindows:
    """Windows of seq_len tokens out of one token stream, globally shuffled."""

    def __init__(self, tokens: TokenSource, seq_len: int, seed: int) -> None:
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

    def starts(self, cursor: int, count: int) -> np.ndarray:
        """Return where in the stream each sample's window starts, int64 (count,)."""
        epochs, samples = self.shuffle(cursor, count)
        offsets = {epoch: self.offset(epoch) for epoch in set(epochs.tolist())}
        return samples * self.seq_len + np.array([offsets[epoch] for epoch in epochs.tolist()])

    def batch(self, cursor: int, count: int) -> tuple[Tensor, Tensor]:
        """Return token_ids and targets (count, T); targets are the tokens one further."""
        token_ids = np.empty((count, self.seq_len), dtype=np.int64)
        targets = np.empty_like(token_ids)
        for row, start in enumerate(self.starts(cursor, count).tolist()):
            window = self.tokens[start : start + self.seq_len + 1]
            token_ids[row], targets[row] = window[:-1], window[1:]
        return torch.from_numpy(token_ids), torch.from_numpy(targets)


class PackedSequences:
    """Fixed sequences (N, T + 1) with a mask of what is learned, globally shuffled."""

    def __init__(self, sequences: np.ndarray, learned: np.ndarray, seed: int) -> None:
        self.sequences = sequences
        self.learned = learned
        self.shuffle = GlobalShuffle(len(sequences), seed)

    def batch(self, cursor: int, count: int) -> tuple[Tensor, Tensor]:
        """Return token_ids and targets (count, T); targets that are not learned are IGNORE."""
        _, rows = self.shuffle(cursor, count)
        return split_rows(self.sequences[rows].astype(np.int64), self.learned[rows])


def split_rows(rows: np.ndarray, learned: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return token_ids and targets (B, T) of rows int64 (B, T + 1); what is not learned is IGNORE."""
    targets = np.where(learned[:, 1:], rows[:, 1:], IGNORE)
    return torch.from_numpy(np.ascontiguousarray(rows[:, :-1])), torch.from_numpy(targets)
