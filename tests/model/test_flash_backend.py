"""A model whose attention is our FlashAttention, beside the same model with the plain one."""

import dataclasses

import pytest
import torch

from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.kv_cache import KVCache
from gpt.model.loss import mean_loss
from gpt.model.transformer import Transformer
from tests.tolerances import TOLERANCE

pytest.importorskip("triton", reason="Triton is not installed; on Linux type: make setup")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def losses(config: ModelConfig, backend: str, steps: int) -> list[float]:
    """Train on one batch with plain gradient descent; return the loss of every step."""
    model = Transformer(dataclasses.replace(config, attention_backend=backend))
    init_weights(model, 0)
    model.to(DEVICE)
    ids = torch.randint(0, config.vocab_size, (2, 25), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    history = []
    for _ in range(steps):
        loss = mean_loss(model(ids[:, :-1]), ids[:, 1:])
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.5 * parameter.grad
        history.append(loss.item())
    return history


def test_trains_to_the_losses_of_the_plain_attention(modern: ModelConfig) -> None:
    """Guards: gradients that are right alone and wrong in a model (norms, rotations and groups before it)."""
    ours, plain = losses(modern, "flash", 4), losses(modern, "reference", 4)
    assert plain[-1] < plain[0] - 0.5
    assert max(abs(a - b) for a, b in zip(ours, plain, strict=True)) <= TOLERANCE["flash_training_loss"]


@torch.no_grad()
def test_cached_equals_uncached(modern: ModelConfig) -> None:
    """Guards: chunks behind a cached prefix whose mask stands in the wrong corner; padded keys that count."""
    model = Transformer(dataclasses.replace(modern, attention_backend="flash"))
    init_weights(model, 0)
    model.to(DEVICE)
    ids = torch.arange(24, device=DEVICE).view(2, 12)
    whole = model(ids)
    cache = KVCache(model.config, 2, device=torch.device(DEVICE))
    pieces = [model(part, cache) for part in ids.split([5, 1, 4, 2], dim=1)]
    assert (torch.cat(pieces, 1) - whole).abs().max() <= TOLERANCE["logits_cached_vs_uncached"]
