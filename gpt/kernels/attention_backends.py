"""Causal attention by backend name: the one entry that the model calls.

A backend that is unavailable raises; nothing falls back silently. Shapes everywhere: q (B, T, H, D),
k and v (B, S, G, D) with S >= T; the T queries are the last T of the S positions. With document_ids
(B, T), which needs S = T, a query sees the keys of its own document alone.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from gpt.kernels.reference_attention import causal_mask, reference_attention


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor | None = None) -> Tensor:
    """Attend with PyTorch's scaled_dot_product_attention; returns (B, T, H, D).

    With document_ids the mask is handed over in full, (B, 1, T, T): PyTorch then leaves its flash kernel.
    """
    n_queries, n_keys = q.shape[1], k.shape[1]
    # branches: of sizes that torch.compile leaves open an expression is no bool
    mask, is_causal, is_grouped = None, False, False
    if q.shape[2] != k.shape[2]:
        is_grouped = True
    if document_ids is not None:
        mask = causal_mask(n_queries, n_keys, document_ids, q.device)
    elif n_queries == n_keys:
        is_causal = True
    elif n_queries > 1:
        # is_causal aligns the triangle to the top left; a cached prefix needs the bottom right
        mask = causal_mask(n_queries, n_keys, None, q.device)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),  # (B, H, T, D)
        k.transpose(1, 2),  # (B, G, S, D)
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=is_causal,
        enable_gqa=is_grouped,
    )
    return out.transpose(1, 2)  # (B, T, H, D)


def flash(q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor | None = None) -> Tensor:
    """Attend with our FlashAttention; raises ValueError where Triton is not installed or cannot run."""
    try:
        from gpt.kernels.flash_attention import flash_attention
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise ValueError(
            "attention_backend: flash needs Triton, which is not installed; "
            "choose sdpa, or on Linux type: make setup"
        ) from None
    return flash_attention(q, k, v, document_ids=document_ids)


BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]] = {
    "sdpa": sdpa_attention,
    "reference": reference_attention,
    "flash": flash,
}


def attention(q: Tensor, k: Tensor, v: Tensor, *, backend: str, document_ids: Tensor | None = None) -> Tensor:
    """Attend causally, within documents if there are any; raises ValueError for an unknown backend."""
    if backend not in BACKENDS:
        raise ValueError(f"attention_backend: got {backend!r}; choose one of {', '.join(BACKENDS)}")
    assert document_ids is None or q.shape[1] == k.shape[1], "documents and a cached prefix do not mix"
    return BACKENDS[backend](q, k, v, document_ids)
