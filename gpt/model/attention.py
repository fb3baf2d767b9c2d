"""Causal self-attention with grouped keys and values, optional QK-norm and rotary positions.

Value residual: Zhou et al. 2024 (ResFormer), eq. 7, with one learned share per block.
"""

import torch
from torch import Tensor, nn

from gpt.kernels.attention_backends import attention
from gpt.kernels.fused_kernels import fused_kernel
from gpt.model.config import ModelConfig
from gpt.model.kv_cache import Cache
from gpt.model.rope import apply_rope


class Attention(nn.Module):
    """Attention of one block.

    n_kv_heads = n_heads      n_kv_heads = 2            n_kv_heads = 1
    q q q q  (MHA)            q q q q  (GQA)            q q q q  (MQA)
    | | | |                   \\ / \\ /                    \\ \\ / /
    k k k k                    k   k                       k
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.layer = layer
        kv_dim = config.n_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.dim, config.dim, bias=config.bias)
        self.k_proj = nn.Linear(config.dim, kv_dim, bias=config.bias)
        self.v_proj = nn.Linear(config.dim, kv_dim, bias=config.bias)
        self.o_proj = nn.Linear(config.dim, config.dim, bias=config.bias)
        if config.qk_norm:
            self.q_norm = nn.RMSNorm(
                config.head_dim, eps=config.norm_eps, elementwise_affine=config.norm_gain
            )
            self.k_norm = nn.RMSNorm(
                config.head_dim, eps=config.norm_eps, elementwise_affine=config.norm_gain
            )
        self.fused_rope = fused_kernel("rope") if "rope" in config.fused_kernels else None
        self.mixes_values = config.value_residual and layer > 0
        if self.mixes_values:
            self.value_mix = nn.Parameter(torch.empty(1))

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor] | None,
        first_values: Tensor | None = None,
        cache: Cache | None = None,
        document_ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend over x (B, T, C) and the cached positions; returns (B, T, C) and x's values.

        `first_values` (B, T, G, D) are those that the first block returned: later blocks mix them into
        their own when the config asks for it. With document_ids (B, T) nothing is seen of another document.
        """
        q, k, v = self.project(x, rope)
        values = v  # (B, T, G, D)
        if self.mixes_values:
            assert first_values is not None
            v = v.lerp(first_values, self.value_mix)  # (B, T, G, D)
        backend = self.config.attention_backend
        if cache is None:
            out = attention(q, k, v, backend=backend, document_ids=document_ids)  # (B, T, H, D)
        else:
            out = cache.attend(self.layer, q, k, v, backend)  # (B, T, H, D)
        return self.o_proj(out.flatten(2)), values  # (B, T, C)

    def project(self, x: Tensor, rope: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return q (B, T, H, D), k and v (B, T, G, D), normalized and rotated, values unmixed."""
        d = self.config.head_dim
        q = self.q_proj(x).unflatten(-1, (-1, d))  # (B, T, H, D)
        k = self.k_proj(x).unflatten(-1, (-1, d))  # (B, T, G, D)
        v = self.v_proj(x).unflatten(-1, (-1, d))  # (B, T, G, D)
        if self.fused_rope is not None:
            norm, eps = self.config.qk_norm, self.config.norm_eps
            gains = (self.q_norm.weight, self.k_norm.weight) if norm else (None, None)
            q, k = self.fused_rope(q, k, rope, norm=norm, gains=gains, eps=eps)
            return q, k, v
        if self.config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = apply_rope(q, *rope), apply_rope(k, *rope)
        return q, k, v
