"""The mean cross-entropy of a vocabulary head, without the (N, V) logits: a block of rows at a time.

The gradient of a row's loss needs that row's logits alone, softmax(logits) - onehot(target). So each block of
rows is projected, scored and differentiated at once and then dropped, in the forward; what is kept are the
gradients of the hidden states and of the head, and the backward only multiplies them. The products are those
of the plain way, three of N V C, none twice. One torch operator, so that torch.compile neither unrolls the
blocks nor looks inside. Not here: a loss for each position.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK_LOGITS = {"cpu": 2**24, "cuda": 2**27}
"""Logits at a time: small beside a batch's, and large enough for full matrix products and few additions to
the head's gradient: 64 MiB in float32 on a CPU, 256 MiB in bfloat16 on a GPU."""


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    ignore: int,
    softcap: float = 0.0,
    fused: bool = False,
    block_logits: int | None = None,
) -> Tensor:
    """Return the mean nats of targets (N,) under logits hidden (N, C) @ weight (V, C).T, a scalar in float32.

    Targets equal to `ignore` do not count; where none counts the mean is NaN. softcap c bounds the logits to
    c tanh(logits / c). `fused` scores and differentiates a block in one Triton kernel, in place. Under
    autocast the products run in its dtype. Raises ValueError for a block of no row, and for
    `fused` without Triton.
    """
    assert hidden.ndim == 2, hidden.shape
    assert weight.shape[1] == hidden.shape[1], (weight.shape, hidden.shape)
    assert targets.shape == hidden.shape[:1], (targets.shape, hidden.shape)
    if block_logits is None:
        block_logits = BLOCK_LOGITS.get(hidden.device.type, BLOCK_LOGITS["cpu"])
    if block_logits < 1:
        raise ValueError(f"block_logits: at least 1 is needed, got {block_logits}")
    dtype = hidden.dtype
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
    rows = max(1, block_logits // weight.shape[0])
    is_graph = torch.is_grad_enabled()
    wants = (is_graph and hidden.requires_grad, is_graph and weight.requires_grad)
    return operator(hidden, weight, targets, ignore, softcap, rows, dtype, fused, *wants)[0]


def in_blocks(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore: int,
    softcap: float,
    rows: int,
    dtype: torch.dtype,
    fused: bool,
    wants_hidden: bool,
    wants_weight: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the mean, the count, and the gradients of the summed losses where they are wanted, else empties.

    Of the sum, not of the mean: in fp16 a share of 1/N would vanish before the loss scale comes in.
    """
    d_hidden = torch.empty_like(hidden) if wants_hidden else hidden.new_empty(0)  # (N, C)
    d_weight = torch.zeros_like(weight) if wants_weight else weight.new_empty(0)  # (V, C)
    counted = targets != ignore  # (N,)
    total = torch.zeros((), device=hidden.device)
    with torch.autocast(hidden.device.type, enabled=False):
        head = weight.to(dtype)
        for begin in range(0, len(hidden), rows):
            part = slice(begin, begin + rows)
            x = hidden[part].to(dtype)  # (R, C)
            logits = F.linear(x, head)  # (R, V)
            score = fused_losses if fused else plain_losses
            losses, d = score(logits, targets[part], counted[part], softcap, wants_hidden or wants_weight)
            total += losses.sum()
            if wants_hidden:
                d_hidden[part] = d @ head  # (R, C)
            if wants_weight and d_weight.dtype == dtype:
                d_weight.addmm_(d.T, x)  # (V, C) without a second one beside it
            elif wants_weight:
                d_weight += d.T @ x  # (V, C), summed over the blocks in weight's dtype
    n = counted.sum()
    return total / n, n, d_hidden, d_weight


def plain_losses(
    logits: Tensor, targets: Tensor, counted: Tensor, softcap: float, wants_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return nats (R,) of logits (R, V), 0 where not counted, and the gradient (R, V), the logits' dtype."""
    dtype, logits = logits.dtype, logits.float()
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    target = torch.where(counted, targets, 0)[:, None]  # (R, 1)
    normalizer = logits.logsumexp(-1, keepdim=True)  # (R, 1)
    losses = torch.where(counted, (normalizer - logits.gather(1, target))[:, 0], 0)  # (R,)
    if not wants_gradient:
        return losses, logits
    bend = 1 - (logits / softcap) ** 2 if softcap else None  # (R, V) tanh' = 1 - tanh^2
    d = logits.sub_(normalizer).exp_()  # (R, V) softmax
    d.scatter_(1, target, d.gather(1, target) - 1)
    d *= counted[:, None]
    if bend is not None:
        d *= bend
    return losses, d.to(dtype)


def fused_losses(
    logits: Tensor, targets: Tensor, counted: Tensor, softcap: float, wants_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return what plain_losses returns, the gradient in the logits' own memory."""
    try:
        from gpt.kernels.cross_entropy_rows import cross_entropy_rows
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise ValueError(
            "head_loss: fused needs Triton, which is not installed; choose chunked, or on Linux: make setup"
        ) from None
    target = torch.where(counted, targets, -1)  # (R,)
    return cross_entropy_rows(logits, target, softcap, wants_gradient), logits


operator = torch.library.custom_op("rawgpt::chunked_cross_entropy", in_blocks, mutates_args=())


@operator.register_fake
def _(hidden: Tensor, weight: Tensor, targets: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wants_hidden, wants_weight = rest[-2:]
    scalar = hidden.new_empty((), dtype=torch.float32)
    d_hidden = torch.empty_like(hidden) if wants_hidden else hidden.new_empty(0)
    d_weight = torch.empty_like(weight) if wants_weight else weight.new_empty(0)
    return scalar, targets.new_empty((), dtype=torch.int64), d_hidden, d_weight


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.wants = inputs[-2:]
    ctx.set_materialize_grads(False)  # else the second (V, C) of zeros, as the "gradient" of d_weight
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*output[1:])


def _differentiate(ctx: Any, up: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    n, *gradients = ctx.saved_tensors
    scaled = (d * (up / n) if wants else None for d, wants in zip(gradients, ctx.wants, strict=True))
    return (*scaled, *[None] * 8)


operator.register_autograd(_differentiate, setup_context=_keep)
