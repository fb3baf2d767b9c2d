"""Loss, perplexity and bits per byte over windows of a token stream.

Windows do not overlap in what they predict: each token but the first is predicted once, from at most
seq_len tokens before it. Bits per byte counts every nat, those spent on end-of-text too, over the UTF-8
bytes of the text alone, so that models with different tokenizers compare.
"""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from gpt.dataset.loader import TokenSource
from gpt.evaluate.score import Score, evenly, ratio_score
from gpt.evaluate.token_nats import token_nats
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer


def token_bytes(tokenizer: Tokenizer) -> np.ndarray:
    """Return the UTF-8 bytes of each token id, int64 (V,); special tokens have none."""
    sizes = np.zeros(tokenizer.n_vocab, dtype=np.int64)
    sizes[list(tokenizer.ordinary_ids)] = [len(token) for token in tokenizer.tokens]
    return sizes


def cut_windows(tokens: TokenSource, seq_len: int, limit: int) -> list[np.ndarray]:
    """Return windows of seq_len + 1 tokens, each beginning with the last token of the one before.

    The last one may be shorter. With a limit, that many of them, evenly spread.
    """
    starts = range(0, len(tokens) - 1, seq_len)
    return [np.asarray(tokens[s : s + seq_len + 1], dtype=np.int64) for s in evenly(starts, limit)]


def corpus_scores(
    model: Transformer, windows: Sequence[np.ndarray], bytes_of: np.ndarray, batch_tokens: int
) -> list[Score]:
    """Return loss (nats a token), perplexity and bits_per_byte over windows."""
    nats = _window_nats(model, windows, batch_tokens)
    bits = [n / math.log(2) for n in nats]
    sizes = [int(bytes_of[window[1:]].sum()) for window in windows]
    loss = ratio_score("loss", nats, [len(window) - 1 for window in windows], "window")
    return [loss, _perplexity(loss), ratio_score("bits_per_byte", bits, sizes, "window")]


def perplexity_on(model: Transformer, token_ids: Tensor, batch_tokens: int = 4096) -> float:
    """Return the perplexity of token_ids (n, T), each row by itself and without its first token."""
    nats = _window_nats(model, list(token_ids.numpy()), batch_tokens)
    return math.exp(sum(nats) / (token_ids.numel() - len(token_ids)))


def _window_nats(model: Transformer, windows: Sequence[np.ndarray], batch_tokens: int) -> list[float]:
    """Return the nats of each window's tokens but the first."""
    samples = [(window.tolist(), [True] * len(window)) for window in windows]
    return [float(nats.double().sum()) for nats in token_nats(model, samples, batch_tokens)]


def _perplexity(loss: Score) -> Score:
    """Return exp(loss), its standard error to first order."""
    assert loss.value is not None
    value = math.exp(loss.value)
    stderr = None if loss.stderr is None else value * loss.stderr
    return Score(metric="perplexity", value=value, stderr=stderr, n=loss.n, unit=loss.unit)
