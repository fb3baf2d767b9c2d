"""FlashAttention-2 compiled, on a GPU: its error beside that of PyTorch's flash kernel, both from float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.tolerances import TOLERANCE

pytest.importorskip("triton", reason="Triton is not installed; on Linux type: make setup")

from gpt.kernels.flash_attention import flash_attention
from gpt.kernels.reference_attention import reference_attention

pytestmark = pytest.mark.gpu
SHAPES = [(2, 1024, 4, 4, 64), (1, 1000, 8, 2, 128), (1, 777, 3, 1, 32), (1, 515, 2, 2, 96)]
"""B, T, H, G, D."""


def problem(shape: tuple[int, int, int, int, int], dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """Return q, k, v and the gradient of the output."""
    b, t, h, g, d = shape
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(b, t, n, d, generator=generator).to("cuda", dtype) for n in (h, g, g, h)]
    return [x.requires_grad_() for x in tensors[:3]], tensors[3]


def by_sdpa_flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend with PyTorch's flash kernel, keys repeated."""
    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, 2), v.repeat_interleave(group, 2)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_error_is_of_the_order_of_pytorchs(shape: tuple[int, int, int, int, int], dtype: torch.dtype) -> None:
    """Guards: compiled code that computes something else than the interpreter; sums in half precision."""
    inputs, up = problem(shape, dtype)
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    exact = reference_attention(*doubles)
    wanted = [exact, *torch.autograd.grad(exact, doubles, up.double())]
    ours, theirs = flash_attention(*inputs), by_sdpa_flash(*inputs)
    found = [ours, *torch.autograd.grad(ours, inputs, up)]
    peer = [theirs, *torch.autograd.grad(theirs, inputs, up)]
    for a, b, w in zip(found, peer, wanted, strict=True):
        allowed = TOLERANCE["flash_gpu_times_sdpa"] * (b.double() - w).abs().max()
        assert (a.double() - w).abs().max() <= allowed


def test_documents_equal_each_alone() -> None:
    """Three documents in a row against three calls. Guards: a neighbour seen at a tile's edge, compiled."""
    inputs, up = problem((1, 900, 4, 2, 64), torch.bfloat16)
    lengths = [130, 500, 270]
    ids = torch.arange(3, device="cuda").repeat_interleave(torch.tensor(lengths, device="cuda"))[None]
    together = flash_attention(*inputs, document_ids=ids)
    pieces = zip(*(x.split(lengths, 1) for x in inputs), strict=True)
    alone = torch.cat([flash_attention(*piece) for piece in pieces], 1)
    pairs = zip(
        [together, *torch.autograd.grad(together, inputs, up)],
        [alone, *torch.autograd.grad(alone, inputs, up)],
        strict=True,
    )
    for a, b in pairs:
        assert (a - b).abs().max() <= TOLERANCE["flash_gpu_documents"]


def test_two_runs_give_the_same_bits() -> None:
    """Guards: a sum whose order depends on which program comes first (atomics)."""
    inputs, up = problem((1, 1000, 8, 2, 128), torch.bfloat16)
    torch.use_deterministic_algorithms(True)
    first = torch.autograd.grad(flash_attention(*inputs), inputs, up)
    second = torch.autograd.grad(flash_attention(*inputs), inputs, up)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
