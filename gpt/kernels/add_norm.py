"""Residual addition and RMSNorm in one Triton kernel each way (Zhang and Sennrich 2019).

    s = x + update        r = 1 / sqrt(mean(s^2) + eps)        y = s r w
    ds = ds_out + r (w dy - s r^2 mean(w dy s))                dw = sum over rows of dy s r

A program holds whole rows. r is computed again on the way back; the gradient of the gains is summed in two
steps, by program and then over programs, so that no order depends on a race. Under autocast y leaves in its
dtype, as the linears behind it would cast it anyway.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpt.kernels.tuning import INTERPRETED, check, tuned

DIAL, INSTEAD = "fused_kernels: norm", "leave norm out"
CHOICES = ((1, 4), (2, 4), (4, 4), (4, 8), (1, 8))
"""Rows at a time, and warps."""
FIXED = (4, 1)
PROGRAMS = 3 if INTERPRETED else 528
"""Of the backward: each leaves one row of sums; four for each of an H100's 132 processors."""


@triton.jit
def forward_kernel(
    x: tl.tensor,
    update: tl.tensor,
    gain: tl.tensor,
    total: tl.tensor,
    out: tl.tensor,
    n_rows: int,
    width: int,
    eps: float,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Write out (N, C), and total (N, C) where there is an update."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < n_rows) & (column < width)
    place = row * width + column
    s = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)  # (ROWS, C)
    if update is not None:
        s += tl.load(update + place, mask=inside, other=0.0).to(tl.float32)
        rounded = s.to(total.dtype.element_ty)
        tl.store(total + place, rounded, mask=inside)
        s = rounded.to(tl.float32)  # what the residual stream holds is what is normalized
    y = s * tl.rsqrt(tl.sum(s * s, 1) / width + eps)[:, None]
    if gain is not None:
        y *= tl.load(gain + column, mask=column < width, other=0.0).to(tl.float32)
    tl.store(out + place, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    dy: tl.tensor,
    dtotal: tl.tensor,
    s_source: tl.tensor,
    gain: tl.tensor,
    ds: tl.tensor,
    dgain: tl.tensor,
    n_rows: int,
    width: int,
    eps: float,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Write ds (N, C), and one row of dgain (programs, C) each."""
    column = tl.arange(0, BLOCK)[None, :]
    sums = tl.zeros([ROWS, BLOCK], tl.float32)
    w = tl.full([1, BLOCK], 1.0, tl.float32)
    if gain is not None:
        w = tl.load(gain + column, mask=column < width, other=0.0).to(tl.float32)
    for begin in tl.range(tl.program_id(0) * ROWS, n_rows, tl.num_programs(0) * ROWS):
        row = (begin + tl.arange(0, ROWS)[:, None]).to(tl.int64)
        inside = (row < n_rows) & (column < width)
        place = row * width + column
        s = tl.load(s_source + place, mask=inside, other=0.0).to(tl.float32)
        d = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32)
        r = tl.rsqrt(tl.sum(s * s, 1) / width + eps)[:, None]
        sums += d * s * r
        d *= w
        slope = r * (d - s * r * r * (tl.sum(d * s, 1) / width)[:, None])
        if dtotal is not None:
            slope += tl.load(dtotal + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(ds + place, slope.to(ds.dtype.element_ty), mask=inside)
    if gain is not None:
        out = tl.program_id(0) * width + tl.arange(0, BLOCK)
        tl.store(dgain + out, tl.sum(sums, 0), mask=tl.arange(0, BLOCK) < width)


def rms_norm(x: Tensor, gain: Tensor | None, eps: float) -> Tensor:
    """Return RMSNorm of x (..., C); raises ValueError where the kernel cannot run."""
    return operator(x, None, gain, eps, _dtype(x))[1]


def add_rms_norm(x: Tensor, update: Tensor, gain: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Return x + update and its RMSNorm, both (..., C); raises ValueError where the kernel cannot run."""
    assert x.shape == update.shape, (x.shape, update.shape)
    total, out = operator(x, update, gain, eps, _dtype(x, update))
    return total, out


def _dtype(*addends: Tensor) -> torch.dtype:
    """Return what the norm leaves in: autocast's dtype, or that of the sum."""
    if torch.is_autocast_enabled(addends[0].device.type):
        return torch.get_autocast_dtype(addends[0].device.type)
    return _wider(*addends)


def _wider(x: Tensor, update: Tensor | None = None) -> torch.dtype:
    return x.dtype if update is None else torch.promote_types(x.dtype, update.dtype)


@torch.library.custom_op("rawgpt::add_rms_norm", mutates_args=())
def operator(
    x: Tensor, update: Tensor | None, gain: Tensor | None, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the sum (..., C), empty without an update, and the norm in dtype (..., C)."""
    check(x, DIAL, INSTEAD)
    total, out = _shapes(x, update, dtype)
    width = x.shape[-1]
    n = x.numel() // width
    x, update = x.contiguous(), None if update is None else update.contiguous()

    def run(choice: tuple[int, int]) -> None:
        rows, warps = choice
        block = triton.next_power_of_2(width)
        forward_kernel[(triton.cdiv(n, rows),)](
            x, update, gain, total, out, n, width, eps, ROWS=rows, BLOCK=block, num_warps=warps
        )

    key = ("add_norm", x.dtype, update is None, width, triton.next_power_of_2(n))
    tuned(run, key=key, choices=CHOICES, fixed=FIXED, like=x, dial=DIAL, instead=INSTEAD)
    return total, out


@torch.library.custom_op("rawgpt::add_rms_norm_backward", mutates_args=())
def backward_operator(
    dtotal: Tensor | None, dy: Tensor, s: Tensor, gain: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the sum s (..., C) and of the gain (C,), empty without one."""
    width = s.shape[-1]
    n = s.numel() // width
    ds = torch.empty_like(s, memory_format=torch.contiguous_format)
    dgain = dy.new_empty(0 if gain is None else PROGRAMS, width, dtype=torch.float32)
    dy, s, dtotal = dy.contiguous(), s.contiguous(), None if dtotal is None else dtotal.contiguous()

    def run(choice: tuple[int, int]) -> None:
        rows, warps = choice
        block = triton.next_power_of_2(width)
        backward_kernel[(PROGRAMS,)](
            dy, dtotal, s, gain, ds, dgain, n, width, eps, ROWS=rows, BLOCK=block, num_warps=warps
        )

    key = ("add_norm_backward", s.dtype, dtotal is None, width, triton.next_power_of_2(n))
    tuned(run, key=key, choices=CHOICES, fixed=FIXED, like=s, dial=DIAL, instead=INSTEAD)
    return ds, s.new_empty(0) if gain is None else dgain.sum(0).to(gain.dtype)


def _shapes(x: Tensor, update: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    total = x.new_empty(0) if update is None else x.new_empty(x.shape, dtype=_wider(x, update))
    return total, x.new_empty(x.shape, dtype=dtype)


@operator.register_fake
def _(
    x: Tensor, update: Tensor | None, gain: Tensor | None, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    return _shapes(x, update, dtype)


@backward_operator.register_fake
def _(dtotal: Tensor | None, dy: Tensor, s: Tensor, gain: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    ds = torch.empty_like(s, memory_format=torch.contiguous_format)
    return ds, s.new_empty(0) if gain is None else torch.empty_like(gain)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, update, gain, ctx.eps, _ = inputs
    ctx.dtypes = (x.dtype, None if update is None else update.dtype)
    ctx.save_for_backward(x if update is None else output[0], gain)
    if update is None:
        ctx.mark_non_differentiable(output[0])


def _differentiate(ctx: Any, dtotal: Tensor, dy: Tensor) -> tuple[Tensor | None, ...]:
    s, gain = ctx.saved_tensors
    x_dtype, update_dtype = ctx.dtypes
    ds, dgain = backward_operator(None if update_dtype is None else dtotal, dy, s, gain, ctx.eps)
    dupdate = None if update_dtype is None else ds.to(update_dtype)
    return ds.to(x_dtype), dupdate, None if gain is None else dgain, None, None


operator.register_autograd(_differentiate, setup_context=_keep)
