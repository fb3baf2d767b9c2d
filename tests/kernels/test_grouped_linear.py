"""gpt/kernels/grouped_linear.py: the GPU's grouped matmul against the CPU's loop, both run here."""

import torch

from gpt.kernels.grouped_linear import by_grouped_matmul, by_loop, grouped_linear
from tests.tolerances import TOLERANCE


def test_grouped_matmul_equals_the_loop_with_gradients() -> None:
    """Guards: offsets that begin where a group ends, a transposed matrix, an empty expert."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(24, 16, generator=generator)
    weight = torch.randn(4, 32, 16, generator=generator)
    up = torch.randn(24, 32, generator=generator)
    counts = torch.tensor([5, 0, 16, 3])
    results = []
    for function in (by_grouped_matmul, by_loop):
        x1, w1 = x.clone().requires_grad_(), weight.clone().requires_grad_()
        out = function(x1, w1, counts)
        out.backward(up)
        assert x1.grad is not None
        assert w1.grad is not None
        results.append((out.detach(), x1.grad, w1.grad))
    for ours, reference in zip(*results, strict=True):
        assert (ours - reference).abs().max() <= TOLERANCE["grouped_vs_loop"]
    assert torch.equal(results[1][0][5:21], x[5:21] @ weight[2].T)


def test_autocast_reaches_the_experts() -> None:
    """Guards: experts that stay in fp32 (or refuse mixed dtypes) in a bf16 run."""
    x, weight = torch.randn(4, 16), torch.randn(2, 8, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert grouped_linear(x, weight, torch.tensor([1, 3])).dtype == torch.bfloat16
    assert grouped_linear(x, weight, torch.tensor([1, 3])).dtype == torch.float32
