"""QK-norm and rotary positions of queries and keys, in one Triton launch each way.

    u = g x r, r = 1 / sqrt(mean(x^2) + eps)              QK-norm: RMSNorm of a head (skipped without it)
    (y1, y2) = (u1 cos - u2 sin, u2 cos + u1 sin)         half-split pairs, Su et al. 2021, eq. 34

On the way back the rotation is turned round, du = (d1 cos + d2 sin, d2 cos - d1 sin), and then the norm:
dx = r (g du - x r^2 mean(g du x)), dg = sum of du x r, summed by program and then over programs. The first
programs of a launch take the queries' heads, the others the keys'; a row is one head of one token.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpt.kernels.tuning import INTERPRETED, check, tuned

DIAL, INSTEAD = "fused_kernels: rope", "leave rope out"
CHOICES = ((8, 4), (16, 4), (32, 4), (32, 8))
"""Heads at a time, and warps."""
FIXED = (4, 1)
PROGRAMS = 2 if INTERPRETED else 528
"""Of each side: a program walks over its rows with this stride."""


@triton.jit
def rotate_rows(
    source: tl.tensor,
    dout: tl.tensor,
    gain: tl.tensor,
    sink: tl.tensor,
    sums: tl.tensor,
    tables: tl.tuple,
    program: int,
    n_rows: int,
    n_heads: int,
    eps: float,
    sizes: tl.tuple,
    NORM: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    PROGRAMS: tl.constexpr,
) -> None:
    """Rotate the rows of one side that are this program's; with dout, write gradients instead."""
    cos_table, sin_table = tables
    n_positions, half = sizes
    column = tl.arange(0, BLOCK)[None, :]
    valid = column < half
    g1, g2 = tl.full([1, BLOCK], 1.0, tl.float32), tl.full([1, BLOCK], 1.0, tl.float32)
    if gain is not None:
        g1 = tl.load(gain + column, mask=valid, other=0.0).to(tl.float32)
        g2 = tl.load(gain + half + column, mask=valid, other=0.0).to(tl.float32)
    sum1, sum2 = tl.zeros([ROWS, BLOCK], tl.float32), tl.zeros([ROWS, BLOCK], tl.float32)
    for begin in tl.range(program * ROWS, n_rows, PROGRAMS * ROWS):
        row = begin + tl.arange(0, ROWS)[:, None]
        inside = (row < n_rows) & valid
        place = row.to(tl.int64) * (2 * half) + column
        angle = (row // n_heads % n_positions) * half + column
        cos = tl.load(cos_table + angle, mask=inside, other=0.0)
        sin = tl.load(sin_table + angle, mask=inside, other=0.0)
        x1 = tl.load(source + place, mask=inside, other=0.0).to(tl.float32)
        x2 = tl.load(source + half + place, mask=inside, other=0.0).to(tl.float32)
        r = tl.full([ROWS, 1], 1.0, tl.float32)
        if NORM:
            r = tl.rsqrt(tl.sum(x1 * x1 + x2 * x2, 1) / (2 * half) + eps)[:, None]
        if dout is None:
            x1, x2 = x1 * r * g1, x2 * r * g2
            y1, y2 = x1 * cos - x2 * sin, x2 * cos + x1 * sin
        else:
            d1 = tl.load(dout + place, mask=inside, other=0.0).to(tl.float32)
            d2 = tl.load(dout + half + place, mask=inside, other=0.0).to(tl.float32)
            y1, y2 = d1 * cos + d2 * sin, d2 * cos - d1 * sin
            if NORM:
                sum1 += y1 * x1 * r
                sum2 += y2 * x2 * r
                y1, y2 = y1 * g1, y2 * g2
                mean = (tl.sum(y1 * x1 + y2 * x2, 1) / (2 * half))[:, None] * r * r
                y1, y2 = r * (y1 - x1 * mean), r * (y2 - x2 * mean)
        tl.store(sink + place, y1.to(sink.dtype.element_ty), mask=inside)
        tl.store(sink + half + place, y2.to(sink.dtype.element_ty), mask=inside)
    if sums is not None:
        flat = tl.arange(0, BLOCK)
        here = sums + program * (2 * half) + flat
        tl.store(here, tl.sum(sum1, 0), mask=flat < half)
        tl.store(here + half, tl.sum(sum2, 0), mask=flat < half)


@triton.jit
def qk_kernel(
    q: tl.tensor,
    k: tl.tensor,
    dq: tl.tensor,
    dk: tl.tensor,
    q_gain: tl.tensor,
    k_gain: tl.tensor,
    q_sink: tl.tensor,
    k_sink: tl.tensor,
    q_sums: tl.tensor,
    k_sums: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    n_tokens: int,
    n_heads: int,
    n_kv_heads: int,
    n_positions: int,
    half: int,
    eps: float,
    NORM: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    PROGRAMS: tl.constexpr,
) -> None:
    """Take the queries in the first PROGRAMS programs and the keys in the others."""
    tables, sizes, program = (cos, sin), (n_positions, half), tl.program_id(0)
    if program < PROGRAMS:
        rows = n_tokens * n_heads
        rotate_rows(
            q, dq, q_gain, q_sink, q_sums, tables, program, rows, n_heads, eps, sizes,
            NORM, ROWS, BLOCK, PROGRAMS,
        )  # fmt: skip
    else:
        rows = n_tokens * n_kv_heads
        rotate_rows(
            k, dk, k_gain, k_sink, k_sums, tables, program - PROGRAMS, rows, n_kv_heads, eps, sizes,
            NORM, ROWS, BLOCK, PROGRAMS,
        )  # fmt: skip


def launch(
    inputs: tuple[Tensor, Tensor],
    gradients: tuple[Tensor | None, Tensor | None],
    gains: tuple[Tensor | None, Tensor | None],
    sums: tuple[Tensor | None, Tensor | None],
    tables: tuple[Tensor, Tensor],
    eps: float,
    norm: bool,
) -> tuple[Tensor, Tensor]:
    """Return what the kernel writes for q (B, T, H, D) and k (B, T, G, D)."""
    q, k = (x.contiguous() for x in inputs)
    check(q, DIAL, INSTEAD)
    dq, dk = (None if d is None else d.contiguous() for d in gradients)
    cos, sin = (table.contiguous() for table in tables)
    sinks = torch.empty_like(q), torch.empty_like(k)
    n_tokens, (positions, half) = q.shape[0] * q.shape[1], cos.shape

    def run(choice: tuple[int, int]) -> None:
        rows, warps = choice
        qk_kernel[(2 * PROGRAMS,)](
            q, k, dq, dk, *gains, *sinks, *sums, cos, sin,
            n_tokens, q.shape[2], k.shape[2], positions, half, eps,
            NORM=norm, ROWS=rows, BLOCK=triton.next_power_of_2(half), PROGRAMS=PROGRAMS, num_warps=warps,
        )  # fmt: skip

    key = ("qk_rope", q.dtype, dq is None, norm, half, q.shape[2], triton.next_power_of_2(n_tokens))
    tuned(run, key=key, choices=CHOICES, fixed=FIXED, like=q, dial=DIAL, instead=INSTEAD)
    return sinks


def qk_rope(
    q: Tensor,
    k: Tensor,
    rope: tuple[Tensor, Tensor],
    *,
    norm: bool = False,
    gains: tuple[Tensor | None, Tensor | None] = (None, None),
    eps: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return q (B, T, H, D) and k (B, T, G, D), each head normalized if asked, rotated by tables (T, D/2).

    gains (D,) are those of the two norms. Raises ValueError where the kernel cannot run.
    """
    assert q.dtype == k.dtype, (q.dtype, k.dtype)
    assert rope[0].shape == (q.shape[1], q.shape[3] // 2), (rope[0].shape, q.shape)
    out = operator(q, k, *rope, *gains, eps, norm)
    return out[0], out[1]


@torch.library.custom_op("rawgpt::qk_rope", mutates_args=())
def operator(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_gain: Tensor | None,
    k_gain: Tensor | None,
    eps: float,
    norm: bool,
) -> tuple[Tensor, Tensor]:
    """Return q (B, T, H, D) and k (B, T, G, D)."""
    return launch((q, k), (None, None), (q_gain, k_gain), (None, None), (cos, sin), eps, norm)


@torch.library.custom_op("rawgpt::qk_rope_backward", mutates_args=())
def backward_operator(
    dq: Tensor,
    dk: Tensor,
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_gain: Tensor | None,
    k_gain: Tensor | None,
    eps: float,
    norm: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and of the gains, empty where there are none."""
    gains = (q_gain, k_gain)
    sums = [None if g is None else q.new_empty(PROGRAMS, q.shape[3], dtype=torch.float32) for g in gains]
    found = launch((q, k), (dq, dk), gains, (sums[0], sums[1]), (cos, sin), eps, norm)
    dq_gain, dk_gain = (
        q.new_empty(0) if g is None or s is None else s.sum(0).to(g.dtype)
        for g, s in zip(gains, sums, strict=True)
    )
    return *found, dq_gain, dk_gain


@operator.register_fake
def _(q: Tensor, k: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q, memory_format=torch.contiguous_format), torch.empty_like(
        k, memory_format=torch.contiguous_format
    )


@backward_operator.register_fake
def _(
    dq: Tensor,
    dk: Tensor,
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_gain: Tensor | None,
    k_gain: Tensor | None,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    found = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k)]
    gains = [q.new_empty(0) if g is None else torch.empty_like(g) for g in (q_gain, k_gain)]
    return found[0], found[1], gains[0], gains[1]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.eps, ctx.norm = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, dq: Tensor, dk: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # asked for once: a recomputed block hands each out once
    gains = saved[4:]
    dq, dk, *found = backward_operator(dq, dk, *saved, ctx.eps, ctx.norm)
    dgains = (None if g is None else d for g, d in zip(gains, found, strict=True))
    return dq, dk, None, None, *dgains, None, None


operator.register_autograd(_differentiate, setup_context=_keep)
