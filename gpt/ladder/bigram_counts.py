"""The bigram without training: pairs counted, probabilities divided out, its loss exactly.

The independent reference of rung 1, whose table learns the same numbers by gradient descent. Not a rung.
Source of add-k smoothing: Jurafsky and Martin, Speech and Language Processing, chapter 3.
"""

import math

import numpy as np

SAMPLES, CONTEXT = 32, 8
"""Windows of a batch and characters of a window in the tutorials whose single-batch losses are quoted."""


def count_pairs(token_ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """Return how often each character (row) is followed by each (column), (V, V) float64."""
    pairs = token_ids[:-1].astype(np.int64) * vocab_size + token_ids[1:]
    return np.bincount(pairs, minlength=vocab_size**2).reshape(vocab_size, vocab_size).astype(np.float64)


def log_probabilities(counts: np.ndarray, k: float) -> np.ndarray:
    """Return ln((count + k) / (row sum + k V)), (V, V); k > 0 keeps unseen pairs possible."""
    if k <= 0:
        raise ValueError(f"k: must be positive, got {k}; an unseen pair would cost infinitely much")
    return np.log(counts + k) - np.log((counts + k).sum(axis=1, keepdims=True))


def pair_loss(counts: np.ndarray, log_p: np.ndarray) -> float:
    """Return the mean nats per character over all counted pairs."""
    return float(-(counts * log_p).sum() / counts.sum())


def lowest_loss(counts: np.ndarray) -> float:
    """Return the conditional entropy, which the best table for these very pairs reaches and none beats."""
    rows = counts.sum(axis=1, keepdims=True)
    seen = counts > 0
    return float(-(counts[seen] * np.log((counts / np.maximum(rows, 1))[seen])).sum() / counts.sum())


def starting_loss(vocab_size: int) -> float:
    """Return the expected loss of an N(0, 1) table: ln V + 1/2 - (e - 1) / (2 V).

    The target's logit is 0 on average. The log of the sum of V lognormals is, to second order, the log of
    V times their mean sqrt(e), minus half their relative variance e - 1 over V.
    """
    return math.log(vocab_size) + 0.5 - (math.e - 1) / (2 * vocab_size)


def batch_losses(token_ids: np.ndarray, log_p: np.ndarray, *, n_batches: int, seed: int) -> np.ndarray:
    """Return the losses (n_batches,) of random batches of SAMPLES windows of CONTEXT characters."""
    losses = -log_p[token_ids[:-1], token_ids[1:]]  # (n - 1,)
    rng = np.random.default_rng(seed)
    starts = rng.integers(len(losses) - CONTEXT + 1, size=(n_batches, SAMPLES, 1))
    return losses[starts + np.arange(CONTEXT)].mean(axis=(1, 2))
