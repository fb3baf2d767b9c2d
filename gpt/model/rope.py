"""Rotary position embedding, half-split convention (Su et al. 2021, eq. 34; Llama's rotate_half).

Pair i of a head is (x[i], x[i + D/2]); position p turns it by p * theta^(-2i/D).
"""

import torch
from torch import Tensor


def rope_table(max_seq_len: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return cos and sin, fp32, each (max_seq_len, D/2)."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim  # (D/2,)
    angle = torch.outer(torch.arange(max_seq_len, dtype=torch.float64), theta**-exponent)
    return angle.cos().float(), angle.sin().float()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x (B, T, H, D) by tables (T, D/2); computed in fp32, returned in x's dtype."""
    first, second = x.float().chunk(2, dim=-1)  # (B, T, H, D/2) each
    cos, sin = cos[:, None, :], sin[:, None, :]  # (T, 1, D/2)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)
