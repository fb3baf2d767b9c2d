"""A dense embedding of our own: BM25's weights, folded into `dims` numbers with random signs.

The count sketch (Charikar, Chen, Farach-Colton 2002; feature hashing, Weinberger et al. 2009): feature f
adds sign(f) w to place h(f). The inner product of a passage's sketch and a question's is BM25's score on
average, with a variance of about |passage|^2 |question|^2 / dims, so FAISS can search what BM25 would score.
Nothing is learned: places and signs are a function of the feature's number.
"""

from typing import Protocol

import numpy as np
from torch import Tensor

from gpt.rag.bm25 import Bm25


class Embedder(Protocol):
    """What makes vectors of passages and questions; inner products rank."""

    def passages(self, texts: list[str]) -> np.ndarray:
        """Return float32 (n, dims)."""

    def question(self, text: str) -> np.ndarray:
        """Return float32 (dims,)."""

    def tensors(self) -> dict[str, Tensor]:
        """Return what it learned of the passages, for a file."""


class Sketch:
    """The embedding of an index that has its BM25 already."""

    def __init__(self, bm25: Bm25, dims: int) -> None:
        self.bm25, self.dims = bm25, dims
        mixed = _mix(bm25.features.astype(np.uint64))
        self.places = (mixed % np.uint64(dims)).astype(np.int64)  # (F,)
        self.signs = np.where(mixed >> np.uint64(63), -1.0, 1.0)  # (F,)

    def passages(self, texts: list[str]) -> np.ndarray:
        """Return the sketches (n, dims) of the passages that the BM25 was fitted on, in their order."""
        assert len(texts) == self.bm25.n_passages, "a sketch folds the weights of its own index"
        features = np.repeat(np.arange(len(self.bm25.features)), np.diff(self.bm25.starts))  # (P,)
        cells = self.bm25.passages * self.dims + self.places[features]
        sums = np.bincount(
            cells, weights=self.signs[features] * self.bm25.weights, minlength=len(texts) * self.dims
        )
        return sums.reshape(len(texts), self.dims).astype(np.float32)

    def question(self, text: str) -> np.ndarray:
        """Return the sketch (dims,) of a question's counts."""
        places, counts = self.bm25.question(text)
        weights = self.signs[places] * counts
        return np.bincount(self.places[places], weights=weights, minlength=self.dims).astype(np.float32)

    def tensors(self) -> dict[str, Tensor]:
        """Return nothing: places and signs follow from the features."""
        return {}


def _mix(x: np.ndarray) -> np.ndarray:
    """Spread uint64 numbers over all 64 bits: the finalizer of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
