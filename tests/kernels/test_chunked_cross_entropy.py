"""The head's loss in blocks of rows against logits made whole."""

from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.kernels.chunked_cross_entropy import chunked_cross_entropy, in_blocks
from tests.tolerances import TOLERANCE

IGNORE = -100
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WAYS = [False, pytest.param(True, marks=pytest.mark.skipif(find_spec("triton") is None, reason="no Triton"))]
"""Not fused, fused."""


def problem() -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden (23, 8), weight (37, 8) and targets, every fourth of them not counted."""
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 37, (23,), generator=g)
    targets[::4] = IGNORE
    hidden, weight = torch.randn(23, 8, generator=g), torch.randn(37, 8, generator=g)
    hidden, weight, targets = hidden.to(DEVICE), weight.to(DEVICE), targets.to(DEVICE)
    return hidden.requires_grad_(), weight.requires_grad_(), targets


@pytest.mark.parametrize("fused", WAYS)
@pytest.mark.parametrize("softcap", [0.0, 3.0])
@pytest.mark.parametrize("rows", [1, 5, 23, 100])
def test_equals_the_whole_with_gradients(rows: int, softcap: float, fused: bool) -> None:
    """Blocks that do not divide 23 rows, the loss scaled by 7. Guards: a last block that is left out, a mean
    over each block, masked positions that pull at the head, a cap without its derivative, a lost scale."""
    hidden, weight, targets = problem()
    ours = chunked_cross_entropy(
        hidden, weight, targets, ignore=IGNORE, softcap=softcap, fused=fused, block_logits=rows * 37
    )
    found = [ours, *torch.autograd.grad(7 * ours, (hidden, weight))]
    logits = hidden.double() @ weight.double().T
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    whole = F.cross_entropy(logits, targets, ignore_index=IGNORE)
    wanted = [whole, *torch.autograd.grad(7 * whole, (hidden, weight))]
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).abs().max() <= TOLERANCE["chunked_vs_whole_loss"]


def test_autocast_runs_the_products_in_bfloat16() -> None:
    """Equal to F.linear under autocast in one block. Guards: products in fp32, four times as slow; gradients
    that leave in bfloat16."""
    hidden, weight, targets = problem()
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        ours = chunked_cross_entropy(hidden, weight, targets, ignore=IGNORE)
        plain = F.cross_entropy(F.linear(hidden, weight).float(), targets, ignore_index=IGNORE)
    assert (ours - plain).abs() <= TOLERANCE["chunked_vs_whole_loss"]
    for a, b in zip(
        torch.autograd.grad(ours, (hidden, weight)), torch.autograd.grad(plain, (hidden, weight)), strict=True
    ):
        assert a.dtype == torch.float32
        assert (a - b).abs().max() <= TOLERANCE["chunked_bfloat16_gradient"]


@torch.no_grad()
def test_the_logits_never_stand_whole() -> None:
    """Guards: a list of blocks kept until the backward, which is the memory that this exists to save."""
    hidden, weight, targets = problem()
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and out.shape[-1:] == (37,):
                largest = max(largest, out.numel())
            return out

    with Watch():
        in_blocks(hidden, weight, targets, IGNORE, 0.0, 9, torch.float32, False, True, True)
    assert largest == 9 * 37


def test_float16_keeps_gradients_that_a_mean_would_lose() -> None:
    """4,096 rows: a softmax entry over N is 4e-6, where fp16 has steps of 6e-8; a loss scale of 2^16
    multiplies the mean. Guards: a share of 1/N taken in half precision, before the scale."""
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(4096, 8, generator=g).to(DEVICE).requires_grad_()
    weight = torch.randn(64, 8, generator=g).to(DEVICE).requires_grad_()
    targets = torch.randint(0, 64, (4096,), generator=g).to(DEVICE)
    exact = torch.autograd.grad(F.cross_entropy(hidden @ weight.T, targets), (hidden, weight))
    with torch.autocast(DEVICE, dtype=torch.float16):
        ours = chunked_cross_entropy(hidden, weight, targets, ignore=IGNORE)
    for a, b in zip(torch.autograd.grad(2**16 * ours, (hidden, weight)), exact, strict=True):
        assert (a / 2**16 - b).abs().max() <= TOLERANCE["chunked_float16_relative"] * b.abs().max()


def test_a_frozen_side_gets_no_gradient() -> None:
    """Guards: LoRA's frozen head paying for a (V, C) gradient; the wrong one of two gradients handed back."""
    hidden, weight, targets = problem()
    both = torch.autograd.grad(
        chunked_cross_entropy(hidden, weight, targets, ignore=IGNORE), (hidden, weight)
    )
    loss = chunked_cross_entropy(hidden, weight.detach(), targets, ignore=IGNORE)
    assert torch.equal(torch.autograd.grad(loss, hidden)[0], both[0])
    loss = chunked_cross_entropy(hidden.detach(), weight, targets, ignore=IGNORE)
    assert torch.equal(torch.autograd.grad(loss, weight)[0], both[1])
    with torch.no_grad():
        assert torch.equal(chunked_cross_entropy(hidden, weight, targets, ignore=IGNORE), loss)


def test_the_operator_tells_the_compiler_the_truth() -> None:
    """PyTorch's own check of schema, fake tensors and autograd. Guards: shapes that only eager code has."""
    hidden, weight, targets = problem()
    for wants in ((True, True), (False, False)):
        arguments = (hidden, weight, targets, IGNORE, 3.0, 9, torch.float32, False, *wants)
        torch.library.opcheck(torch.ops.rawgpt.chunked_cross_entropy.default, arguments)


def test_nothing_counted_is_nan_as_in_torch() -> None:
    """Guards: a loss of 0 where there was nothing to learn from, which the loop would apply."""
    hidden, weight, targets = problem()
    assert chunked_cross_entropy(hidden, weight, torch.full_like(targets, IGNORE), ignore=IGNORE).isnan()


def test_a_block_of_nothing_is_refused() -> None:
    """Guards: a dial of 0 that becomes a division or one row at a time."""
    hidden, weight, targets = problem()
    with pytest.raises(ValueError, match="block_logits: at least 1 is needed, got 0"):
        chunked_cross_entropy(hidden, weight, targets, ignore=IGNORE, block_logits=0)
