"""Attention as the equation reads: softmax(q k^T / sqrt(D)) v (Vaswani et al. 2017, eq. 1).

The oracle of the other backends and the source of the report's heatmaps; not fast.
"""

import torch
from torch import Tensor


def causal_mask(n_queries: int, n_keys: int, document_ids: Tensor | None, device: torch.device) -> Tensor:
    """Return what may be seen, bool (T, S), or (B, 1, T, T) within documents (B, T); queries stand last."""
    causal = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device).tril(n_keys - n_queries)
    if document_ids is None:
        return causal
    return causal & (document_ids[:, None, :, None] == document_ids[:, None, None, :])


def attention_weights(q: Tensor, k: Tensor, document_ids: Tensor | None = None) -> Tensor:
    """Return causal attention probabilities (B, H, T, S) of q (B, T, H, D) over k (B, S, G, D)."""
    seen = causal_mask(q.shape[1], k.shape[1], document_ids, q.device)
    k = k.repeat_interleave(q.shape[2] // k.shape[2], dim=2)  # (B, S, H, D)
    scores = torch.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5  # (B, H, T, S)
    return scores.masked_fill(~seen, float("-inf")).softmax(dim=-1)


def reference_attention(q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor | None = None) -> Tensor:
    """Attend with explicit probabilities; returns (B, T, H, D)."""
    v = v.repeat_interleave(q.shape[2] // v.shape[2], dim=2)  # (B, S, H, D)
    return torch.einsum("bhts,bshd->bthd", attention_weights(q, k, document_ids).to(v.dtype), v)
