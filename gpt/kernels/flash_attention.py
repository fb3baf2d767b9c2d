"""FlashAttention-2 as a torch operator: checks, autograd, what torch.compile needs to know of it.

Dao 2023, "FlashAttention-2"; grouped keys are read, not repeated; softcap as in Gemma 2. The kernels are in
flash_forward.py and flash_backward.py. Not here: dropout of probabilities.
"""

from typing import Any

import torch
from torch import Tensor

from gpt.kernels.flash_launch import Problem, backward, forward
from gpt.kernels.flash_scores import document_spans
from gpt.kernels.tuning import INTERPRETED

MAX_HEAD_DIM = 128
ALIGNMENT_BYTES = 16
"""Of rows and addresses, for the GPU's copy engine."""


def flash_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = True,
    document_ids: Tensor | None = None,
    softcap: float = 0.0,
) -> Tensor:
    """Attend over k and v (B, S, G, D) from q (B, T, H, D), the last T of S positions; returns (B, T, H, D).

    document_ids (B, S) are integers: positions see those of their own run of equal ones alone. softcap c
    bounds the scores to c tanh(scores / c); 0 turns it off. Under autocast all are cast to its dtype.
    Raises ValueError for what the kernels cannot compute.
    """
    if torch.is_autocast_enabled(q.device.type):
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    check(q, k, v, document_ids)
    starts, ends = (None, None) if document_ids is None else document_spans(document_ids)
    out, _ = flash_operator(q, k, v, starts, ends, causal, softcap)
    return out


def check(q: Tensor, k: Tensor, v: Tensor, document_ids: Tensor | None) -> None:
    """Refuse tensors that the kernels cannot read."""
    if q.device.type != "cuda" and not INTERPRETED:
        raise ValueError(
            f"attention_backend: flash runs on CUDA, the tensors are on {q.device.type}; choose sdpa, "
            "or type TRITON_INTERPRET=1 in front of the command to test it in Triton's slow interpreter"
        )
    if q.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"attention_backend: flash takes float32, float16 or bfloat16, got {q.dtype}")
    if not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"attention_backend: flash needs one dtype, got {q.dtype}, {k.dtype}, {v.dtype}")
    head_dim = q.shape[-1]
    if head_dim > MAX_HEAD_DIM or head_dim * q.itemsize % ALIGNMENT_BYTES:
        step = ALIGNMENT_BYTES // q.itemsize
        raise ValueError(
            f"head_dim: flash takes multiples of {step} up to {MAX_HEAD_DIM} in {q.dtype}, got {head_dim}; "
            "change dim or n_heads, or choose attention_backend: sdpa"
        )
    assert k.shape == v.shape, (k.shape, v.shape)
    assert q.shape[0] == k.shape[0], (q.shape, k.shape)
    assert q.shape[2] % k.shape[2] == 0, (q.shape, k.shape)
    assert 1 <= q.shape[1] <= k.shape[1], (q.shape, k.shape)
    assert document_ids is None or document_ids.shape == k.shape[:2], (k.shape, document_ids)


def aligned(x: Tensor) -> Tensor:
    """Return x as the copy engine wants it: rows of D without gaps, 16-byte addresses and strides."""
    steps = (x.data_ptr(), *(stride * x.itemsize for stride in x.stride()[:-1]))
    good = x.stride(-1) == 1 and not any(step % ALIGNMENT_BYTES for step in steps)
    return x if good else x.clone(memory_format=torch.contiguous_format)


def problem_of(
    q: Tensor, k: Tensor, starts: Tensor | None, ends: Tensor | None, causal: bool, softcap: float
) -> Problem:
    """Gather what both directions need to know."""
    (batch, n_queries, n_heads, head_dim), (_, n_keys, n_kv_heads, _) = q.shape, k.shape
    return Problem(
        shape=(batch, n_queries, n_keys, n_heads, n_kv_heads, head_dim),
        dtype=q.dtype,
        spans=None if starts is None or ends is None else (starts.contiguous(), ends.contiguous()),
        causal=causal,
        softcap=softcap,
    )


@torch.library.custom_op("rawgpt::flash_attention", mutates_args=())
def flash_operator(
    q: Tensor, k: Tensor, v: Tensor, starts: Tensor | None, ends: Tensor | None, causal: bool, softcap: float
) -> tuple[Tensor, Tensor]:
    """Return out (B, T, H, D) and lse (B, H, T)."""
    return forward(aligned(q), aligned(k), aligned(v), problem_of(q, k, starts, ends, causal, softcap))


@torch.library.custom_op("rawgpt::flash_attention_backward", mutates_args=())
def flash_backward_operator(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    starts: Tensor | None,
    ends: Tensor | None,
    causal: bool,
    softcap: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dq (B, T, H, D), dk and dv (B, S, G, D)."""
    problem = problem_of(q, k, starts, ends, causal, softcap)
    return backward(aligned(dout), aligned(q), aligned(k), aligned(v), out, lse, problem)


@flash_operator.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    lse = q.new_empty(q.shape[0], q.shape[2], q.shape[1], dtype=torch.float32)
    return torch.empty_like(q, memory_format=torch.contiguous_format), lse


@flash_backward_operator.register_fake
def _(dout: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    return dq, dk, dv


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, starts, ends, ctx.causal, ctx.softcap = inputs
    ctx.save_for_backward(q, k, v, *output, starts, ends)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, dout: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, out, lse, starts, ends = ctx.saved_tensors
    gradients = flash_backward_operator(dout, q, k, v, out, lse, starts, ends, ctx.causal, ctx.softcap)
    return (*gradients, None, None, None, None)


flash_operator.register_autograd(_differentiate, setup_context=_keep)
