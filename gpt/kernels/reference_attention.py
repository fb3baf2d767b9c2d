"""Attention as the equation reads: softmax(q k^T / sqrt(D)) v (Vaswani et al. 2017, eq. 1).

The oracle of the other backends and the source of the report's heatmaps; not fast.
"""

import torch
from torch import Tensor


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """Return causal attention probabilities (B, H, T, S) of q (B, T, H, D) over k (B, S, G, D)."""
    n_queries, n_keys = q.shape[1], k.shape[1]
    k = k.repeat_interleave(q.shape[2] // k.shape[2], dim=2)  # (B, S, H, D)
    scores = torch.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5  # (B, H, T, S)
    causal = torch.ones(n_queries, n_keys, dtype=torch.bool, device=q.device)
    causal = causal.tril(n_keys - n_queries)  # the queries are the last T positions
    return scores.masked_fill(~causal, float("-inf")).softmax(dim=-1)


def reference_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend with explicit probabilities; returns (B, T, H, D)."""
    v = v.repeat_interleave(q.shape[2] // v.shape[2], dim=2)  # (B, S, H, D)
    return torch.einsum("bhts,bshd->bthd", attention_weights(q, k).to(v.dtype), v)
