"""The symmetric 4-bit grid of a group of weights: its scale, and the nearest code.

scale = 2 * absmax / 15, zero at code 8, as in the GPTQ paper's code for symmetric grids. With "mse" the
absmax is shrunk by the ratio that leaves the least squared rounding error. A scale is rounded to fp16
before anything is quantized with it, so that what is stored is what was optimized.
"""

import torch
from torch import Tensor

from gpt.kernels.int4_packing import MAX_CODE, ZERO_CODE, codes_to_values

CLIP_RATIOS = tuple(1 - 0.02 * i for i in range(16))
"""Shrinkings that "mse" tries."""


def group_scales(weight: Tensor, group_size: int, rule: str) -> Tensor:
    """Return scales float16 (out, in/g) of weight (out, in)."""
    groups = weight.unflatten(1, (-1, group_size))  # (out, in/g, g)
    if rule == "absmax":
        return shrunk_scales(weight, group_size, 1.0)
    assert rule == "mse", rule
    best = torch.full(groups.shape[:2], torch.inf, dtype=weight.dtype, device=weight.device)  # (out, in/g)
    scales = torch.zeros_like(best, dtype=torch.float16)
    for ratio in CLIP_RATIOS:
        trial = shrunk_scales(weight, group_size, ratio)
        error = (round_trip(weight, trial) - weight).square().unflatten(1, (-1, group_size)).sum(dim=-1)
        scales = torch.where(error < best, trial, scales)
        best = torch.minimum(error, best)
    return scales


def shrunk_scales(weight: Tensor, group_size: int, ratio: float) -> Tensor:
    """Return scales float16 (out, in/g) whose grid ends at a share of each group's largest weight."""
    largest = weight.unflatten(1, (-1, group_size)).abs().amax(dim=-1)  # (out, in/g)
    return _to_fp16(2 * ratio * largest / MAX_CODE)


def nearest_codes(values: Tensor, scales: Tensor) -> Tensor:
    """Return the nearest codes uint8 of values, whose scales have a shape that broadcasts to them."""
    return (values / scales.to(values.dtype)).round().add(ZERO_CODE).clamp(0, MAX_CODE).to(torch.uint8)


def round_to_nearest(weight: Tensor, scales: Tensor) -> Tensor:
    """Return codes uint8 (out, in) of weight (out, in) with scales (out, in/g), each weight by itself."""
    groups = weight.unflatten(1, (scales.shape[1], -1))  # (out, in/g, g)
    return nearest_codes(groups, scales[:, :, None]).flatten(1)


def round_trip(weight: Tensor, scales: Tensor) -> Tensor:
    """Return weight (out, in) as it reads after rounding to nearest."""
    return codes_to_values(round_to_nearest(weight, scales), scales.to(weight.dtype))


def _to_fp16(scales: Tensor) -> Tensor:
    """Round to fp16; a group of zeros (or one below fp16's least number) gets 1, whose code 8 is 0."""
    rounded = scales.half()
    assert bool(rounded.isfinite().all()), "a scale beyond fp16"
    return torch.where(rounded == 0, torch.ones_like(rounded), rounded)
