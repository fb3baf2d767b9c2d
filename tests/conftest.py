"""Fixtures that several rooms share: one thread, no tracking, a tiny tokenizer and tiny models."""

import os
from collections.abc import Iterator

import pytest
import torch

from gpt.model.config import ModelConfig
from gpt.tokenizer.tokenizer import Tokenizer, train_tokenizer

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton reads it once, when it is imported

SENTENCES = [
    "Shall I compare thee to a summer's day? Thou art more lovely and more temperate.",
    "Rough winds do shake the darling buds of May, and summer's lease hath all too short a date.",
    "Mera UPI payment fail ho gaya, paisa kab wapas aayega? Refund 3 din mein aa jayega.",
]


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep tests off the tracking store and from leaking determinism settings into each other."""
    monkeypatch.setenv("RAWGPT_TRACKING", "off")
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A BPE tokenizer of 320 ids, trained on three sentences."""
    return train_tokenizer(SENTENCES, 320, "gpt2")


@pytest.fixture
def modern() -> ModelConfig:
    """A tiny model in modern mode: RMSNorm, RoPE, SwiGLU, GQA, QK-norm, tied."""
    return ModelConfig(
        vocab_size=320, max_seq_len=32, dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=64, qk_norm=True
    )


@pytest.fixture
def gpt2_mode() -> ModelConfig:
    """A tiny model in GPT-2 mode: LayerNorm, learned positions, GELU, biases, tied."""
    return ModelConfig(
        vocab_size=320,
        max_seq_len=32,
        dim=32,
        n_layers=2,
        n_heads=4,
        n_kv_heads=4,
        ffn_dim=128,
        norm="layernorm",
        activation="gelu",
        position="learned",
        bias=True,
    )
