"""Many matrices, one call: rows sorted by expert, each slice times its expert's matrix. No row is dropped.

On a GPU in bf16 this is PyTorch's grouped matmul, which needs no count on the host. On a CPU its backward
is some 30 times slower than a loop over the experts (docs/experiments.md), so the loop runs there and for
every other dtype; it reads the counts back, which a CPU does for nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def grouped_linear(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Return (N, out): rows x (N, in), the first counts[0] of them by weight[0] of (E, out, in), and so on.

    Under autocast both are cast to its dtype, as in F.linear; without it the weight is cast to x's.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x = x.to(dtype)
    weight = weight.to(x.dtype)  # experts that a rank keeps as fp32 masters meet what it computes in
    if not len(x):  # a rank that no token was sent to: its weight's gradient is zeros, not none
        return F.linear(x, weight[0])
    if x.device.type == "cuda" and x.dtype == torch.bfloat16:
        return by_grouped_matmul(x, weight, counts)
    return by_loop(x, weight, counts)


def by_grouped_matmul(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Compute grouped_linear in one kernel; empty groups are allowed."""
    offsets = counts.cumsum(0).to(torch.int32)  # (E,) where each group ends
    return F.grouped_mm(x, weight.transpose(-2, -1), offs=offsets)


def by_loop(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Compute grouped_linear expert by expert; empty groups are passed over."""
    pieces = x.split(counts.tolist())
    return torch.cat([F.linear(piece, weight[e]) for e, piece in enumerate(pieces) if len(piece)])
