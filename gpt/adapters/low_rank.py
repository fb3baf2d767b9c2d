"""y = x W^T + b + s (u A^T) B^T for a W that is frozen, without the temporaries that autograd would keep.

The update is added into the product in place, forward and backward. W is kept as it lies in memory (fp32,
bf16, or packed NF4) and made dense just in time, once in each direction: no second copy of it lives between.
"""

from typing import Any

import torch
from torch import Tensor

from gpt.kernels.nf4_packing import Nf4, dequantize


def dense(weight: Tensor | Nf4, dtype: torch.dtype) -> Tensor:
    """Return a frozen weight (out, in) in the dtype that is computed with."""
    return dequantize(weight, dtype) if isinstance(weight, Nf4) else weight.to(dtype)


def low_rank_linear(
    x: Tensor,
    weight: Tensor | Nf4,
    bias: Tensor | None,
    a: Tensor | None,
    b: Tensor | None,
    scale: float,
    dropped: Tensor | None,
) -> Tensor:
    """Return (..., out) of x (..., in), frozen weight (out, in), a (R, in), b (out, R).

    `dropped` is what the update sees instead of x, after dropout; a None leaves the update out. Under
    autocast the products run in its dtype.
    """
    dtype = x.dtype
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
    flat = x.to(dtype).reshape(-1, x.shape[-1])  # (N, in)
    seen = None if dropped is None else dropped.to(dtype).reshape(flat.shape)
    a, b = (t if t is None else t.to(dtype) for t in (a, b))
    out = _LowRankLinear.apply(flat, seen, a, b, scale, weight, bias)  # (N, out)
    return out.view(*x.shape[:-1], -1)


class _LowRankLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dropped: Tensor | None,
        a: Tensor | None,
        b: Tensor | None,
        scale: float,
        weight: Tensor | Nf4,
        bias: Tensor | None,
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            w = dense(weight, x.dtype)  # (out, in)
            y = x @ w.T if bias is None else torch.addmm(bias.to(x.dtype), x, w.T)  # (N, out)
            seen, reduced = x if dropped is None else dropped, None
            if a is not None and b is not None:
                reduced = seen @ a.T  # (N, R)
                y.addmm_(reduced, b.T, alpha=scale)
        learns = a is not None and (ctx.needs_input_grad[2] or ctx.needs_input_grad[3])
        ctx.save_for_backward(seen if learns else None, reduced if learns else None, a, b)
        ctx.weight, ctx.scale, ctx.has_dropped = weight, scale, dropped is not None
        return y

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        seen, reduced, a, b = ctx.saved_tensors
        d_x = d_dropped = d_a = d_b = None
        if ctx.needs_input_grad[0]:
            d_x = up @ dense(ctx.weight, up.dtype)  # (N, in)
        if a is not None:
            d_reduced = (up @ b).mul_(ctx.scale)  # (N, R)
            if seen is not None:
                d_a = d_reduced.T @ seen  # (R, in)
                d_b = (up.T @ reduced).mul_(ctx.scale)  # (out, R)
            if ctx.has_dropped and ctx.needs_input_grad[1]:
                d_dropped = d_reduced @ a  # (N, in)
            elif not ctx.has_dropped and d_x is not None:
                d_x.addmm_(d_reduced, a)
        return d_x, d_dropped, d_a, d_b, None, None, None
