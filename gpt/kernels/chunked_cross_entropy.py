"""The mean cross-entropy of a vocabulary head, without the (N, V) logits: a block of rows at a time.

The gradient of a row's loss needs that row's logits alone, softmax(logits) - onehot(target). So each block of
rows is projected, scored and differentiated at once and then dropped, in the forward; what is kept are the
gradients of the hidden states and of the head, and the backward only multiplies them. The products are those
of the plain way, three of N V C, none twice. Not here: a loss for each position.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK_LOGITS = 2**24
"""Logits at a time: 64 MiB in float32, small beside a batch's and large enough for full matrix products."""


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    ignore: int,
    softcap: float = 0.0,
    block_logits: int = BLOCK_LOGITS,
) -> Tensor:
    """Return the mean nats of targets (N,) under logits hidden (N, C) @ weight (V, C).T, a scalar in float32.

    Targets equal to `ignore` do not count; where none counts the mean is NaN. softcap c bounds the logits to
    c tanh(logits / c). Under autocast the products run in its dtype. Raises ValueError for a block of no row.
    """
    assert hidden.ndim == 2, hidden.shape
    assert weight.shape[1] == hidden.shape[1], (weight.shape, hidden.shape)
    assert targets.shape == hidden.shape[:1], (targets.shape, hidden.shape)
    if block_logits < 1:
        raise ValueError(f"block_logits: at least 1 is needed, got {block_logits}")
    dtype = hidden.dtype
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
    rows = max(1, block_logits // weight.shape[0])
    return _ChunkedCrossEntropy.apply(hidden, weight, targets, ignore, softcap, rows, dtype)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        ignore: int,
        softcap: float,
        rows: int,
        dtype: torch.dtype,
    ) -> Tensor:
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        d_hidden = torch.empty_like(hidden) if wants_hidden else None  # (N, C)
        d_weight = torch.zeros_like(weight) if wants_weight else None  # (V, C)
        counted = targets != ignore  # (N,)
        share = counted / counted.sum()  # (N,) what a position weighs in the mean
        total = torch.zeros((), device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            head = weight.to(dtype)
            for begin in range(0, len(hidden), rows):
                part = slice(begin, begin + rows)
                x = hidden[part].to(dtype)  # (R, C)
                logits = F.linear(x, head).float()  # (R, V)
                if softcap:
                    logits = softcap * torch.tanh(logits / softcap)
                target = torch.where(counted[part], targets[part], 0)[:, None]  # (R, 1)
                normalizer = logits.logsumexp(-1, keepdim=True)  # (R, 1)
                losses = normalizer - logits.gather(1, target)  # (R, 1)
                total += torch.where(counted[part], losses[:, 0], 0).sum()
                if d_hidden is None and d_weight is None:
                    continue
                bend = 1 - (logits / softcap) ** 2 if softcap else None  # (R, V) tanh' = 1 - tanh^2
                d_logits = logits.sub_(normalizer).exp_()  # (R, V) softmax
                d_logits.scatter_(1, target, d_logits.gather(1, target) - 1)
                d_logits *= share[part, None]
                if bend is not None:
                    d_logits *= bend
                d = d_logits.to(dtype)
                if d_hidden is not None:
                    d_hidden[part] = d @ head  # (R, C)
                if d_weight is not None and d_weight.dtype == dtype:
                    d_weight.addmm_(d.T, x)  # (V, C) without a second one beside it
                elif d_weight is not None:
                    d_weight += d.T @ x  # (V, C), summed over the blocks in weight's dtype
        ctx.save_for_backward(d_hidden, d_weight)
        return total / counted.sum()

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight = ctx.saved_tensors
        scaled = (None if d is None else d * up.to(d.dtype) for d in (d_hidden, d_weight))
        return (*scaled, None, None, None, None, None)
