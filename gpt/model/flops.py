"""Parameter counts and floating-point operations of a model, from its config alone.

Training FLOPs per token: 6 x the parameters that a token meets in a matmul, plus attention's
12 L C T (Kaplan et al. 2020; PaLM, appendix B).
"""

import dataclasses

from gpt.model.config import ModelConfig


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ParameterCount:
    """Parameters of one model."""

    total: int
    """All of them; a tied embedding counts once."""
    active: int
    """Those that one token meets: of a mixture, K of the E experts."""
    embedding: int
    """Token and bigram embeddings, learned positions and an untied output projection."""


def count_parameters(config: ModelConfig) -> ParameterCount:
    """Count without building the model."""
    c, d = config.dim, config.head_dim
    bias = int(config.bias)
    kv = config.n_kv_heads * d
    norm = c * config.norm_gain * (2 if config.norm == "layernorm" and config.bias else 1)
    attention = 2 * c * c + 2 * c * kv + bias * (2 * c + 2 * kv)
    attention += 2 * d if config.qk_norm and config.norm_gain else 0
    matrices = 3 if config.activation == "swiglu" else 2
    expert = matrices * c * config.ffn_dim + bias * ((matrices - 1) * config.ffn_dim + c)
    router = c * config.n_experts
    shift = 2 * c if config.token_shift else 0
    block = attention + 2 * norm + router + shift
    n_all, n_active = (config.n_experts, config.n_experts_per_token) if config.n_experts else (1, 1)
    embedding = config.vocab_size * c * (1 if config.tie_embeddings else 2)
    embedding += config.max_seq_len * c if config.position == "learned" else 0
    embedding += config.bigram_rows * c
    value_mixes = config.n_layers - 1 if config.value_residual else 0
    fixed = embedding + norm + config.n_layers * block + value_mixes
    return ParameterCount(
        total=fixed + config.n_layers * n_all * expert,
        active=fixed + config.n_layers * n_active * expert,
        embedding=embedding,
    )


def training_flops_per_token(config: ModelConfig, seq_len: int) -> float:
    """Forward and backward FLOPs per token at `seq_len`, causal attention counted in full."""
    count = count_parameters(config)
    in_matmuls = count.active - count.embedding + config.vocab_size * config.dim
    return 6 * in_matmuls + 12 * config.n_layers * config.dim * seq_len
