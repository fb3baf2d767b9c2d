"""Loss, perplexity and bits per byte."""

import math

import numpy as np
import pytest
import torch

from gpt.evaluate.perplexity import corpus_scores, cut_windows, perplexity_on, token_bytes
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer
from tests.evaluate.tiny_models import tiny_model, tiny_text, tiny_tokenizer
from tests.tolerances import TOLERANCE


def uniform_model() -> Transformer:
    """Return a model whose logits are all 0: it gives each of 300 tokens the same probability."""
    model = tiny_model()
    torch.nn.init.zeros_(model.embed.weight)
    return model


def test_special_tokens_have_no_bytes_wherever_they_stand() -> None:
    """Guards: a foreign vocabulary, which begins with its special tokens, counted one shifted by two."""
    front = Tokenizer(kind="bpe", pattern="", tokens=(b"a", b"bc"), special_tokens={"<x>": 0, "<y>": 2})
    assert token_bytes(front).tolist() == [0, 1, 0, 2]


def test_uniform_model_by_hand() -> None:
    """Loss ln 300, perplexity 300, bits per byte n log2(300) / bytes, standard error 0.

    Guards a mean over padding, base-2 logarithms in the wrong place, and bytes of end-of-text.
    """
    tokenizer = tiny_tokenizer()
    text = tiny_text(150, 1)
    tokens = np.array([*tokenizer.encode(text), tokenizer.end_of_text], dtype=np.uint16)
    windows = cut_windows(tokens, 32, 0)
    loss, perplexity, bpb = corpus_scores(uniform_model(), windows, token_bytes(tokenizer), 256)
    n_bytes = len(text.encode()) - len(tokenizer.decode_bytes([int(tokens[0])]))
    assert loss.value == pytest.approx(math.log(300), abs=TOLERANCE["uniform_loss"])
    assert perplexity.value == pytest.approx(300, abs=300 * TOLERANCE["uniform_loss"])
    assert bpb.value == pytest.approx((len(tokens) - 1) * math.log2(300) / n_bytes, rel=1e-6)
    assert loss.stderr == pytest.approx(0, abs=TOLERANCE["uniform_loss"])
    assert loss.n == len(windows) == -(-(len(tokens) - 1) // 32)


def test_every_token_but_the_first_is_predicted_once() -> None:
    """Windows of 10 over 34 tokens: targets 1..33 in order, the last window short. Guards lost tails."""
    windows = cut_windows(np.arange(34, dtype=np.uint16), 10, 0)
    assert np.concatenate([window[1:] for window in windows]).tolist() == list(range(1, 34))
    assert [len(window) for window in windows] == [11, 11, 11, 4]
    assert [int(window[0]) for window in cut_windows(np.arange(101), 10, 2)] == [20, 70]


def test_perplexity_on_equals_the_mean_of_all_targets() -> None:
    """Against log_softmax of the whole block: guards counting first tokens."""
    model = tiny_model()
    ids = torch.randint(300, (5, 20), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        log_p = model(ids[:, :-1]).log_softmax(-1).gather(-1, ids[:, 1:, None])
    assert perplexity_on(model, ids) == pytest.approx(math.exp(-float(log_p.mean())), rel=1e-5)


def test_perplexitys_error_follows_the_losses() -> None:
    """d exp(loss) = exp(loss) d loss. Guards the loss's own standard error beside a perplexity."""
    tokens = np.random.default_rng(0).integers(300, size=200)
    loss, perplexity, _ = corpus_scores(tiny_model(), cut_windows(tokens, 20, 0), np.ones(300, dtype=int), 99)
    assert loss.value is not None
    assert loss.stderr is not None
    assert perplexity.stderr == pytest.approx(math.exp(loss.value) * loss.stderr)
