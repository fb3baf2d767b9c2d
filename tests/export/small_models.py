"""Small models of every family, and tokenizers of both chat forms."""

import dataclasses

from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from gpt.tokenizer.special_tokens import END_OF_TEXT, IM_END, IM_START
from gpt.tokenizer.tokenizer import Tokenizer, train_tokenizer
from tests.generate.tiny_checkpoint import random_model

TEXTS = [
    "",
    "the river rose in the night of 3 March 1891",
    "kal UPI se ₹500 bheja, 🙏🏽 paisa   wapas\n\n\tkab? ",
    "   1 2  34   x\r\n'll we're THEY'LL",
    "नमस्ते दुनिया ½ ²",
]
LLAMA = {"dim": 64, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "ffn_dim": 128, "max_seq_len": 64}
GPT2 = {"norm": "layernorm", "activation": "gelu", "position": "learned", "bias": True, "n_kv_heads": 2}
MIXTURE = {"n_experts": 4, "n_experts_per_token": 2, "tie_embeddings": False}
KINDS = {
    "llama": LLAMA,
    "mixtral": {**LLAMA, **MIXTURE},
    "qwen3": {**LLAMA, "qk_norm": True, "tie_embeddings": False},
    "qwen3_moe": {**LLAMA, **MIXTURE, "qk_norm": True},
    "gpt2": {**LLAMA, **GPT2},
}
"""Hugging Face's model type -> dials."""


def trained_tokenizer(pattern: str = "gpt2") -> Tokenizer:
    """A tokenizer of 288 ids with our chat tokens."""
    return train_tokenizer([*TEXTS, "the weather there, then the other thing"] * 3, 288, pattern)


def chat_ml() -> Tokenizer:
    """The same words with ChatML's tokens."""
    tokenizer = trained_tokenizer()
    n = len(tokenizer.tokens)
    return dataclasses.replace(tokenizer, special_tokens={END_OF_TEXT: n, IM_START: n + 1, IM_END: n + 2})


def model_of(kind: str, tokenizer: Tokenizer) -> Transformer:
    """A model of random weights with a row for each id."""
    return random_model(ModelConfig(vocab_size=tokenizer.n_vocab, **KINDS[kind]))  # type: ignore[arg-type]
