"""BM25 over hashed features (Robertson and Zaragoza 2009, section 3), as one inverted index of arrays.

A passage's weight of feature f is idf(f) tf (k1 + 1) / (tf + k1 (1 - b + b length / mean length)), with
idf(f) = ln(1 + (N - n_f + 1/2) / (n_f + 1/2)), which is never negative; a question counts each occurrence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gpt.rag.features import feature_ids


@dataclass(frozen=True, kw_only=True, slots=True)
class Bm25:
    """The inverted index: postings of feature i stand at starts[i] .. starts[i + 1]."""

    n_passages: int
    ngram_chars: int
    k1: float
    features: np.ndarray
    """Features that occur, ascending: int64 (F,)."""
    starts: np.ndarray
    """int64 (F + 1,)."""
    passages: np.ndarray
    """Passage of each posting, ascending within a feature: int64 (P,)."""
    weights: np.ndarray
    """Weight of each posting, idf included: float32 (P,)."""

    @property
    def idf(self) -> np.ndarray:
        """idf of each feature: float64 (F,)."""
        return idf_of(np.diff(self.starts), self.n_passages)

    def question(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the places among `features` of the question's known ones, and their counts."""
        ids, counts = np.unique(feature_ids(text, self.ngram_chars), return_counts=True)
        if not len(self.features):
            return ids[:0], counts[:0]
        places = np.searchsorted(self.features, ids).clip(max=len(self.features) - 1)
        known = self.features[places] == ids
        return places[known], counts[known]

    def scores(self, text: str) -> np.ndarray:
        """Return the score of every passage: float64 (n_passages,)."""
        scores = np.zeros(self.n_passages)
        for place, count in zip(*self.question(text), strict=True):
            span = slice(self.starts[place], self.starts[place + 1])
            scores[self.passages[span]] += count * self.weights[span].astype(np.float64)
        return scores

    def bound(self, text: str) -> float:
        """Return the score that no passage reaches: every feature of the question at its full weight.

        Features that no passage has count too, with the idf of a feature in none.
        """
        places, counts = self.question(text)
        n_unknown = len(feature_ids(text, self.ngram_chars)) - int(counts.sum())
        unknown = n_unknown * float(idf_of(np.zeros(1), self.n_passages)[0])
        return (self.k1 + 1) * (float((counts * self.idf[places]).sum()) + unknown)

    def tensors(self) -> dict[str, Tensor]:
        """Return the arrays for a safetensors file."""
        names = ("features", "starts", "passages", "weights")
        return {f"bm25.{name}": torch.from_numpy(getattr(self, name)) for name in names}


def idf_of(n_with: np.ndarray, n_passages: int) -> np.ndarray:
    """Return ln(1 + (N - n + 1/2) / (n + 1/2)) of how many passages have a feature."""
    return np.log1p((n_passages - n_with + 0.5) / (n_with + 0.5))


def fit_bm25(texts: Sequence[str], *, ngram_chars: int, k1: float, b: float) -> Bm25:
    """Build the inverted index of texts."""
    found = [np.unique(feature_ids(text, ngram_chars), return_counts=True) for text in texts]
    empty = np.zeros(0, dtype=np.int64)
    ids = np.concatenate([empty, *(pair[0] for pair in found)])
    counts = np.concatenate([empty, *(pair[1] for pair in found)])
    owners = np.repeat(np.arange(len(texts)), [len(pair[0]) for pair in found])
    lengths = np.array([pair[1].sum() for pair in found], dtype=np.float64)
    order = np.argsort(ids, kind="stable")  # passages stay ascending within a feature
    ids, counts, owners = ids[order], counts[order], owners[order]
    features, starts, n_with = np.unique(ids, return_index=True, return_counts=True)
    idf = np.repeat(idf_of(n_with, len(texts)), n_with)
    length = lengths[owners] / max(float(lengths.mean()), 1.0)
    weights = idf * counts * (k1 + 1) / (counts + k1 * (1 - b + b * length))
    return Bm25(
        n_passages=len(texts),
        ngram_chars=ngram_chars,
        k1=k1,
        features=features,
        starts=np.append(starts, len(ids)).astype(np.int64),
        passages=owners.astype(np.int64),
        weights=weights.astype(np.float32),
    )


def load_bm25(tensors: dict[str, Tensor], *, n_passages: int, ngram_chars: int, k1: float) -> Bm25:
    """Take the arrays back from a file's tensors."""
    names = ("features", "starts", "passages", "weights")
    arrays = {name: tensors[f"bm25.{name}"].numpy() for name in names}
    return Bm25(n_passages=n_passages, ngram_chars=ngram_chars, k1=k1, **arrays)
