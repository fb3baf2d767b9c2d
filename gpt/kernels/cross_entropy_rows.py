"""The cross-entropy of rows of logits and its gradient, in one Triton kernel, in place.

    l = log sum_j exp(z_j) - z_t          d l / d z_j = exp(z_j - log sum exp z) - [j = t]

One program a row. It walks over the vocabulary twice: for the largest score and the sum beside it (the online
softmax of FlashAttention), then for the gradient, which takes the logits' place; a row of GPT-2's vocabulary
stays in the GPU's L2 cache between the two. Eager PyTorch makes some eight passes over float32 copies.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpt.kernels.tuning import INTERPRETED, check

BLOCK, WARPS = 4096, 8
"""Not tuned by the clock: the kernel overwrites what it reads, so that it cannot be run twice."""


@triton.jit
def capped(z: tl.tensor, cap: float, SOFTCAP: tl.constexpr) -> tl.tensor:
    """Return c tanh(z / c), written with an exponential that may overflow or vanish; without a cap, z."""
    return cap * (1.0 - 2.0 / (tl.exp(2.0 * z / cap) + 1.0)) if SOFTCAP else z


@triton.jit
def rows_kernel(
    logits: tl.tensor,
    targets: tl.tensor,
    losses: tl.tensor,
    n_columns: int,
    cap: float,
    BLOCK: tl.constexpr,
    SOFTCAP: tl.constexpr,
    GRADIENT: tl.constexpr,
) -> None:
    """Write losses (R,) and, over logits (R, V), their gradients; a target below 0 makes both 0."""
    row = tl.program_id(0)
    here = logits + row.to(tl.int64) * n_columns
    target = tl.load(targets + row)
    top, total = float("-inf"), 0.0
    for begin in tl.range(0, n_columns, BLOCK):
        column = begin + tl.arange(0, BLOCK)
        z = tl.load(here + column, mask=column < n_columns, other=float("-inf")).to(tl.float32)
        z = tl.where(column < n_columns, capped(z, cap, SOFTCAP), float("-inf"))
        new_top = tl.maximum(top, tl.max(z, 0))
        total = total * tl.exp(top - new_top) + tl.sum(tl.exp(z - new_top), 0)
        top = new_top
    normalizer = top + tl.log(total)
    counts = target >= 0
    chosen = tl.load(here + tl.maximum(target, 0)).to(tl.float32)
    tl.store(losses + row, tl.where(counts, normalizer - capped(chosen, cap, SOFTCAP), 0.0))
    if GRADIENT:
        tl.debug_barrier()  # all threads have read the target's logit before one of them overwrites it
        for begin in tl.range(0, n_columns, BLOCK):
            column = begin + tl.arange(0, BLOCK)
            z = tl.load(here + column, mask=column < n_columns, other=0.0).to(tl.float32)
            z = capped(z, cap, SOFTCAP)
            d = tl.exp(z - normalizer) - tl.where(column == target, 1.0, 0.0)
            if SOFTCAP:
                d *= 1.0 - (z / cap) * (z / cap)  # tanh' = 1 - tanh^2
            d = tl.where(counts, d, 0.0)
            tl.store(here + column, d.to(logits.dtype.element_ty), mask=column < n_columns)


def cross_entropy_rows(logits: Tensor, targets: Tensor, softcap: float, wants_gradient: bool) -> Tensor:
    """Return nats (R,) in float32 of logits (R, V), 0 where targets (R,) are negative.

    With wants_gradient the logits become the gradients of the losses. Raises ValueError where it cannot run.
    """
    check(logits, "head_loss: fused", "choose chunked")
    assert logits.is_contiguous(), logits.stride()
    rows, columns = logits.shape
    losses = logits.new_empty(rows, dtype=torch.float32)
    with torch.cuda.device_of(logits):
        rows_kernel[(rows,)](
            logits,
            targets,
            losses,
            columns,
            softcap or 1.0,
            BLOCK=32 if INTERPRETED else BLOCK,
            SOFTCAP=softcap > 0,
            GRADIENT=wants_gradient,
            num_warps=WARPS,
        )
    return losses
