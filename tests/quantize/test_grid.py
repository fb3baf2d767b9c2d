"""Scales and nearest codes."""

import torch

from gpt.quantize.grid import group_scales, round_to_nearest, round_trip


def test_scale_and_codes_by_hand() -> None:
    """absmax 7.5 gives 2 * 7.5 / 15 = 1; -7.5 rounds to code 0 and 7.5, beyond the top, to 15."""
    weight = torch.tensor([[-7.5, 7.5, 2.2, 0.0]])
    scales = group_scales(weight, 4, "absmax")
    assert scales.tolist() == [[1.0]]
    assert round_to_nearest(weight, scales).tolist() == [[0, 15, 10, 8]]


def test_zeros_stay_zero() -> None:
    """Guards 0 / 0: a group without weights must read as zeros, not as NaN."""
    weight = torch.zeros(2, 8)
    scales = group_scales(weight, 4, "mse")
    assert torch.equal(round_trip(weight, scales), weight)


def test_codes_belong_to_the_stored_scale() -> None:
    """By hand: scale 0.2 is 0.199951171875 in fp16, so 0.09998 (between half of each) is code 9, not 8.

    Guards quantizing with the float32 scale and rounding it afterwards.
    """
    weight = torch.tensor([[1.5, 0.09998]])
    scales = group_scales(weight, 2, "absmax")
    assert scales.item() == 0.199951171875
    assert round_to_nearest(weight, scales)[0, 1] == 9


def test_clipping_never_costs() -> None:
    """The error with searched clipping is at most that of absmax, group by group; guards a wrong min."""
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(1))
    error = {
        rule: (round_trip(weight, group_scales(weight, 16, rule)) - weight)
        .square()
        .unflatten(1, (-1, 16))
        .sum(-1)
        for rule in ("absmax", "mse")
    }
    assert bool((error["mse"] <= error["absmax"]).all())
    assert error["mse"].sum() < 0.97 * error["absmax"].sum()
