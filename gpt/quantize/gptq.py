"""GPTQ: quantize a matrix column by column, each error moved onto the columns that are still free.

Source: Frantar et al. 2022 (arXiv 2210.17323), section 3: steps 1-3 and algorithm 1. It minimizes
||W X - Q X||^2 with the Hessian H = 2/n sum x x^T of the layer's inputs. Two choices of ours: groups are
static (scales come from the original weights, so that the order of columns leaves the file layout alone),
and an input that calibration never saw is rounded to nearest instead of being zeroed: it may live later.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.kernels.int4_packing import ZERO_CODE
from gpt.quantize.grid import group_scales, nearest_codes

BLOCK_COLUMNS = 128
"""Columns whose errors are gathered before they reach the rest of the matrix."""
MAX_DAMPING = 1.0
"""Damping beyond the mean diagonal itself says that the Hessian is worthless."""


class Hessian:
    """Running means of 2 x x^T and of |x| over a layer's inputs."""

    def __init__(self, in_features: int, device: torch.device | str = "cpu") -> None:
        self.matrix = torch.zeros(in_features, in_features, device=device)  # (in, in)
        self.magnitude = torch.zeros(in_features, device=device)  # (in,)
        self.n = 0
        """Input vectors seen."""

    def add(self, x: Tensor) -> None:
        """Take in inputs x (..., in)."""
        rows = x.detach().flatten(0, -2).float()  # (N, in)
        total = self.n + len(rows)
        self.matrix *= self.n / total
        self.matrix += rows.T @ rows * (2 / total)
        self.magnitude *= self.n / total
        self.magnitude += rows.abs().sum(dim=0) / total
        self.n = total


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantized:
    """What GPTQ makes of one matrix."""

    codes: Tensor
    """uint8 (out, in)."""
    scales: Tensor
    """float16 (out, in/g)."""
    damping: float
    """Damping that the factorization needed."""


def gptq(
    weight: Tensor, hessian: Tensor, *, group_size: int, scale: str, act_order: bool, damping: float
) -> Quantized:
    """Quantize weight (out, in) for inputs with the given hessian (in, in), in the dtype of weight.

    Raises ValueError when no damping up to MAX_DAMPING makes the hessian positive definite.
    """
    in_features = weight.shape[1]
    scales = group_scales(weight, group_size, scale)  # (out, in/g)
    diagonal = hessian.diagonal()  # (in,)
    order = torch.arange(in_features, device=weight.device)
    if act_order:
        order = diagonal.argsort(descending=True, stable=True)  # (in,) column numbers
    upper, damping = factor_inverse(hessian[order][:, order], damping)  # (in, in)
    upper = upper.to(weight)
    column_scales = scales[:, order // group_size].to(weight.dtype)  # (out, in)
    free = weight[:, order].clone()  # (out, in): quantized on the left, compensated on the right
    codes = torch.empty_like(free, dtype=torch.uint8)
    for start in range(0, in_features, BLOCK_COLUMNS):
        end = min(start + BLOCK_COLUMNS, in_features)
        errors = torch.zeros_like(free[:, start:end])  # (out, block)
        for i in range(start, end):
            codes[:, i] = nearest_codes(free[:, i], column_scales[:, i])
            value = (codes[:, i].to(weight.dtype) - ZERO_CODE) * column_scales[:, i]  # (out,)
            error = (free[:, i] - value) / upper[i, i]  # (out,)
            free[:, i:end] -= torch.outer(error, upper[i, i:end])
            errors[:, i - start] = error
        free[:, end:] -= errors @ upper[start:end, end:]
    return Quantized(codes=codes[:, order.argsort()], scales=scales, damping=damping)


def factor_inverse(hessian: Tensor, damping: float) -> tuple[Tensor, float]:
    """Return U (in, in), upper, with U^T U = (H + damping * mean diagonal)^-1, and the damping used.

    Damping grows tenfold until the factorization succeeds. In float64 on the CPU: the one place where
    float32 is not enough. Raises ValueError past MAX_DAMPING.
    """
    h = hessian.double().cpu()
    dead = h.diagonal() == 0
    h = h + torch.diag(dead.double())  # an input that was always 0 leaves nothing to divide by
    mean = h.diagonal().mean()
    identity = torch.eye(len(h), dtype=torch.float64)
    used = damping
    while used <= MAX_DAMPING:
        lower, failed = torch.linalg.cholesky_ex(h + used * mean * identity)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed and bool(upper.isfinite().all()):
                return upper.to(hessian.device), used
        used *= 10
    raise ValueError(
        f"damping: the Hessian of {len(h)} inputs stays singular up to {used / 10:g} from {damping:g}; "
        "raise quantize.n_calibration or quantize.damping"
    )
