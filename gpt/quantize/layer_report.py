"""How one linear came out of a calibrated method."""

from dataclasses import dataclass

from torch import Tensor

from gpt.quantize.awq import output_error


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerReport:
    """One linear's error, and what its method chose for it."""

    name: str
    error: float
    """||W X - Q X||^2 over ||W X||^2 on the calibration inputs."""
    nearest_error: float
    """The same for rounding to nearest: gptq with its own scales, awq with absmax and no input scales."""
    damping: float | None = None
    """gptq: the damping that the factorization needed."""
    ratio: float | None = None
    """awq: the power of mean |x| that the inputs are divided by; null where nothing takes their scales."""


def relative_error(weight: Tensor, quantized: Tensor, hessian: Tensor) -> float:
    """Return tr(D H D^T) / tr(W H W^T) with D = W - Q: the squared output error over the output."""
    output = output_error(weight, weight * 0, hessian)
    error = output_error(weight, quantized, hessian)
    return float(error / output.clamp_min(1.0e-38))  # 0/0: a layer without input
