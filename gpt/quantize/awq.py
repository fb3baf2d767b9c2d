"""AWQ on matrices that share an input: scales that protect what meets large activations, and clipping.

Source: Lin et al. 2023 (arXiv 2306.00978), section 3.2: multiply the columns of W by s and divide the inputs
by it, s = mean|x|^ratio, the ratio from a grid by the error of the group's outputs; then shrink each group's
range where that helps. The paper measures errors on samples of the inputs. Here they are
tr(D H D^T) with the inputs' second moment H, the same number over all calibration tokens at once. Grids are
ours (symmetric, gpt/quantize/grid.py), where the paper's have a zero point.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gpt.kernels.int4_packing import codes_to_values
from gpt.quantize.grid import group_scales, round_to_nearest, round_trip, shrunk_scales

N_RATIOS = 20
"""Ratios that are tried: 0 (no scaling), 1/20, ..., 19/20."""
SMALLEST_MEAN = 1.0e-4
SHRINKINGS = tuple(1 - 0.05 * i for i in range(10))
"""Ranges that the clipping tries, of a group's largest weight."""


def output_error(weight: Tensor, quantized: Tensor, moment: Tensor) -> Tensor:
    """Return tr(D H D^T), D = W - Q (out, in): the squared output error for inputs of that second moment."""
    difference = weight - quantized
    return ((difference @ moment) * difference).sum()


def input_scales(magnitude: Tensor, ratio: float) -> Tensor:
    """Return s (in,) for mean |x| (in,): its power, with largest times smallest equal to 1."""
    scales = magnitude.clamp_min(SMALLEST_MEAN).pow(ratio)
    return scales / (scales.max() * scales.min()).sqrt()


def search_scales(
    weights: Sequence[Tensor], moment: Tensor, magnitude: Tensor, group_size: int
) -> tuple[Tensor, float]:
    """Return s (in,) and its ratio: of the grid, those with the least summed output error.

    `weights` (out, in) each read inputs of the second moment (in, in) and mean |x| (in,). Raises ValueError
    when no error is finite.
    """
    best, best_ratio = torch.inf, -1.0
    for ratio in (i / N_RATIOS for i in range(N_RATIOS)):
        s = input_scales(magnitude, ratio)  # (in,)
        error = 0.0
        for weight in weights:
            scaled = weight * s
            rounded = round_trip(scaled, group_scales(scaled, group_size, "absmax")) / s  # (out, in)
            error += float(output_error(weight, rounded, moment))
        if error < best:
            best, best_ratio = error, ratio
    if best_ratio < 0:
        raise ValueError(
            "awq: no output error is finite; raise quantize.n_calibration, or train the parent again"
        )
    return input_scales(magnitude, best_ratio), best_ratio


def clipped_scales(weight: Tensor, moment: Tensor, group_size: int) -> Tensor:
    """Return scales float16 (out, in/g): each group's range shrunk to what leaves its own outputs best.

    A group's error is that of its part of the sum, x_g (w_g - q_g), so blocks of the moment's diagonal do.
    """
    n_groups = weight.shape[1] // group_size
    blocks = moment.unflatten(0, (n_groups, group_size)).unflatten(2, (n_groups, group_size))
    blocks = blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # (in/g, g, g)
    best = torch.full((weight.shape[0], n_groups), torch.inf, device=weight.device)  # (out, in/g)
    scales = torch.ones_like(best, dtype=torch.float16)
    for ratio in SHRINKINGS:
        trial = shrunk_scales(weight, group_size, ratio)
        values = codes_to_values(round_to_nearest(weight, trial), trial.to(weight.dtype))
        difference = (weight - values).unflatten(1, (n_groups, group_size)).transpose(0, 1)  # (in/g, out, g)
        error = ((difference @ blocks) * difference).sum(dim=-1).T  # (out, in/g)
        scales = torch.where(error < best, trial, scales)
        best = torch.minimum(error, best)
    return scales
