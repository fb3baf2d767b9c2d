"""The head's loss in blocks of rows against logits made whole."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.kernels.chunked_cross_entropy import chunked_cross_entropy
from tests.tolerances import TOLERANCE

IGNORE = -100


def problem() -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden (23, 8), weight (37, 8) and targets, every fourth of them not counted."""
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 37, (23,), generator=g)
    targets[::4] = IGNORE
    hidden, weight = torch.randn(23, 8, generator=g), torch.randn(37, 8, generator=g)
    return hidden.requires_grad_(), weight.requires_grad_(), targets


@pytest.mark.parametrize("softcap", [0.0, 3.0])
@pytest.mark.parametrize("rows", [1, 5, 23, 100])
def test_equals_the_whole_with_gradients(rows: int, softcap: float) -> None:
    """Blocks that do not divide 23 rows, the loss scaled by 7. Guards: a last block that is left out, a mean
    over each block, masked positions that pull at the head, a cap without its derivative, a lost scale."""
    hidden, weight, targets = problem()
    ours = chunked_cross_entropy(
        hidden, weight, targets, ignore=IGNORE, softcap=softcap, block_logits=rows * 37
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
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = chunked_cross_entropy(hidden, weight, targets, ignore=IGNORE)
        plain = F.cross_entropy(F.linear(hidden, weight).float(), targets, ignore_index=IGNORE)
    assert (ours - plain).abs() <= TOLERANCE["chunked_vs_whole_loss"]
    for a, b in zip(
        torch.autograd.grad(ours, (hidden, weight)), torch.autograd.grad(plain, (hidden, weight)), strict=True
    ):
        assert a.dtype == torch.float32
        assert (a - b).abs().max() <= TOLERANCE["chunked_bfloat16_gradient"]


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
        chunked_cross_entropy(hidden, weight, targets, ignore=IGNORE, block_logits=9 * 37).backward()
    assert largest == 9 * 37


def test_nothing_counted_is_nan_as_in_torch() -> None:
    """Guards: a loss of 0 where there was nothing to learn from, which the loop would apply."""
    hidden, weight, targets = problem()
    assert chunked_cross_entropy(hidden, weight, torch.full_like(targets, IGNORE), ignore=IGNORE).isnan()


def test_a_block_of_nothing_is_refused() -> None:
    """Guards: a dial of 0 that becomes a division or one row at a time."""
    hidden, weight, targets = problem()
    with pytest.raises(ValueError, match="block_logits: at least 1 is needed, got 0"):
        chunked_cross_entropy(hidden, weight, targets, ignore=IGNORE, block_logits=0)
