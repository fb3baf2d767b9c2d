"""GPTQ on one matrix."""

import pytest
import torch
from torch import Tensor

from gpt.quantize.gptq import Hessian, factor_inverse, gptq
from gpt.quantize.grid import group_scales, round_to_nearest, round_trip
from tests.tolerances import TOLERANCE


def obq(weight: Tensor, hessian: Tensor, group_size: int, damping: float, order: list[int]) -> Tensor:
    """Optimal brain quantization in a fixed order: the textbook update with an explicit inverse Hessian.

    Hassibi and Stork's step for each column q: w -= err / [H^-1]_qq * H^-1[q]; then q leaves H^-1.
    """
    w = weight.double().clone()  # (out, in)
    scales = group_scales(weight, group_size, "absmax").double().repeat_interleave(group_size, dim=1)
    h = hessian.double()
    inverse = torch.linalg.inv(h + damping * h.diagonal().mean() * torch.eye(len(h), dtype=torch.float64))
    codes = torch.zeros(weight.shape, dtype=torch.uint8)
    for q in order:
        code = (w[:, q] / scales[:, q]).round().add(8).clamp(0, 15)
        codes[:, q] = code.to(torch.uint8)
        error = w[:, q] - (code - 8) * scales[:, q]
        w -= torch.outer(error / inverse[q, q], inverse[q])
        inverse = inverse - torch.outer(inverse[:, q], inverse[q]) / inverse[q, q]
    return codes


def layer(out: int, n_in: int, n: int = 1024) -> tuple[Tensor, Tensor, Tensor]:
    """Return a weight (out, in), correlated inputs (n, in) and their Hessian, in float64."""
    g = torch.Generator().manual_seed(3)
    weight = torch.randn(out, n_in, generator=g, dtype=torch.float64)
    mixing = torch.randn(n_in, n_in, generator=g, dtype=torch.float64) * torch.rand(n_in, generator=g)
    x = torch.randn(n, n_in, generator=g, dtype=torch.float64) @ mixing
    return weight, x, 2 * x.T @ x / n


@pytest.mark.parametrize("act_order", [False, True])
def test_equals_optimal_brain_quantization(act_order: bool) -> None:
    """192 inputs cross a block of 128. Guards errors that never reach later blocks or a wrong order."""
    weight, _, h = layer(6, 192)
    order = h.diagonal().argsort(descending=True).tolist() if act_order else list(range(192))
    result = gptq(weight, h, group_size=32, scale="absmax", act_order=act_order, damping=0.01)
    assert torch.equal(result.codes, obq(weight, h, 32, 0.01, order))
    assert not torch.equal(result.codes, round_to_nearest(weight, result.scales))


@pytest.mark.parametrize("act_order", [False, True])
def test_beats_rounding_to_nearest(act_order: bool) -> None:
    """Same scales, real output error: guards compensation with the wrong sign."""
    weight, x, h = layer(16, 64)
    result = gptq(weight, h, group_size=16, scale="mse", act_order=act_order, damping=0.01)
    scales = result.scales.double().repeat_interleave(16, dim=1)
    error = ((result.codes.double() - 8) * scales - weight) @ x.T
    nearest = (round_trip(weight, result.scales) - weight) @ x.T
    assert error.square().sum() < 0.7 * nearest.square().sum()


def test_uncorrelated_inputs_leave_nothing_to_compensate() -> None:
    """With a diagonal Hessian GPTQ is rounding to nearest. Guards a leak between columns."""
    weight, _, _ = layer(4, 32)
    result = gptq(
        weight, torch.diag(torch.rand(32) + 1), group_size=8, scale="mse", act_order=True, damping=0.01
    )
    assert torch.equal(result.codes, round_to_nearest(weight, result.scales))


def test_dead_inputs_are_rounded() -> None:
    """An input that calibration never saw keeps its weight. Guards a division by zero and zeroing."""
    weight, x, _ = layer(4, 32)
    x[:, 5] = 0
    result = gptq(weight, 2 * x.T @ x / len(x), group_size=8, scale="absmax", act_order=True, damping=0.01)
    assert torch.equal(result.codes[:, 5], round_to_nearest(weight, result.scales)[:, 5])
    assert not bool((result.codes[:, 5] == 8).all())
    silent = gptq(weight, torch.zeros(32, 32), group_size=8, scale="absmax", act_order=True, damping=0.01)
    assert torch.equal(silent.codes, round_to_nearest(weight, silent.scales))  # no input was ever seen


def test_damping_grows_on_a_singular_hessian() -> None:
    """Rank 1 of 8 with next to no damping. Guards a crash, or NaN, where few inputs were seen."""
    x = torch.arange(1.0, 9.0)
    upper, used = factor_inverse(torch.outer(x, x), 1e-18)
    assert used > 1e-18
    assert bool(upper.isfinite().all())


def test_a_hopeless_hessian_names_the_dial() -> None:
    """Not positive definite at any damping: guards an endless retry and a silent fallback."""
    with pytest.raises(ValueError, match=r"damping: .*quantize\.n_calibration"):
        factor_inverse(torch.tensor([[1.0, 9.0], [9.0, 1.0]]), 0.01)


def test_hessian_is_a_mean_over_all_inputs() -> None:
    """Uneven batches against one product: guards the mean of batch means."""
    x = torch.randn(70, 12, generator=torch.Generator().manual_seed(4))
    hessian = Hessian(12)
    for piece in (x[:7], x[7:60].view(53, 1, 12), x[60:]):
        hessian.add(piece)
    torch.testing.assert_close(hessian.matrix, 2 * x.T @ x / 70, atol=TOLERANCE["hessian_vs_product"], rtol=0)
