"""SwiGLU's product in one Triton kernel each way (Shazeer 2020).

    h = silu(g) u, silu(g) = g s, s = sigmoid(g)
    dg = dh u s (1 + g (1 - s))          du = dh g s

Two tensors are read and one written; the backward reads three and writes two, and nothing is kept but the
inputs. Computed in float32, returned in the inputs' dtype.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpt.kernels.tuning import check, tuned

DIAL, INSTEAD = "fused_kernels: swiglu", "leave swiglu out"
CHOICES = ((1024, 4), (2048, 4), (4096, 8), (8192, 8))
"""Elements of one program, and its warps."""
FIXED = (64, 1)


@triton.jit
def swiglu_kernel(
    gate: tl.tensor,
    up: tl.tensor,
    dout: tl.tensor,
    out: tl.tensor,
    dup: tl.tensor,
    n: int,
    BLOCK: tl.constexpr,
    BACKWARD: tl.constexpr,
) -> None:
    """Write out (n,), or with BACKWARD the gradients: of the gate into out, of up into dup."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n
    g = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
    s = tl.sigmoid(g)
    if BACKWARD:
        d = tl.load(dout + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(dup + place, (d * g * s).to(dup.dtype.element_ty), mask=inside)
        tl.store(out + place, (d * u * s * (1.0 + g * (1.0 - s))).to(out.dtype.element_ty), mask=inside)
    else:
        tl.store(out + place, (g * s * u).to(out.dtype.element_ty), mask=inside)


def launch(gate: Tensor, up: Tensor, dout: Tensor | None, out: Tensor, dup: Tensor | None) -> None:
    """Run the kernel over tensors of one shape, contiguous."""
    check(gate, DIAL, INSTEAD)
    n = gate.numel()

    def run(choice: tuple[int, int]) -> None:
        block, warps = choice
        grid, backward = (triton.cdiv(n, block),), dout is not None
        swiglu_kernel[grid](gate, up, dout, out, dup, n, BLOCK=block, BACKWARD=backward, num_warps=warps)

    key = ("swiglu", gate.dtype, dout is None, triton.next_power_of_2(n))
    tuned(run, key=key, choices=CHOICES, fixed=FIXED, like=gate, dial=DIAL, instead=INSTEAD)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up, all (..., F); raises ValueError where the kernel cannot run."""
    assert gate.shape == up.shape, (gate.shape, up.shape)
    assert gate.dtype == up.dtype, (gate.dtype, up.dtype)
    return operator(gate, up)


@torch.library.custom_op("rawgpt::swiglu", mutates_args=())
def operator(gate: Tensor, up: Tensor) -> Tensor:
    """Return out (..., F)."""
    out = torch.empty_like(gate, memory_format=torch.contiguous_format)
    launch(gate.contiguous(), up.contiguous(), None, out, None)
    return out


@torch.library.custom_op("rawgpt::swiglu_backward", mutates_args=())
def backward_operator(dout: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of gate and up (..., F)."""
    dgate, dup = (torch.empty_like(gate, memory_format=torch.contiguous_format) for _ in range(2))
    launch(gate.contiguous(), up.contiguous(), dout.contiguous(), dgate, dup)
    return dgate, dup


@operator.register_fake
def _(gate: Tensor, up: Tensor) -> Tensor:
    return torch.empty_like(gate, memory_format=torch.contiguous_format)


@backward_operator.register_fake
def _(dout: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    dgate, dup = (torch.empty_like(gate, memory_format=torch.contiguous_format) for _ in range(2))
    return dgate, dup


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor]:
    return backward_operator(dout, *ctx.saved_tensors)


operator.register_autograd(_differentiate, setup_context=_keep)
