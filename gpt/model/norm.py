"""LayerNorm and RMSNorm by one name, and the residual addition before a norm.

Sources: Ba et al. 2016 (LayerNorm), Zhang and Sennrich 2019 (RMSNorm).
"""

from torch import Tensor, nn

from gpt.kernels.fused_kernels import fused_kernel
from gpt.model.config import ModelConfig


class FusedRMSNorm(nn.RMSNorm):
    """nn.RMSNorm by our Triton kernel; under autocast its result has autocast's dtype."""

    def __init__(self, width: int, *, eps: float, elementwise_affine: bool) -> None:
        super().__init__(width, eps=eps, elementwise_affine=elementwise_affine)
        self.norm, self.add_norm = fused_kernel("norm"), fused_kernel("norm after addition")

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (..., C)."""
        return self.norm(x, self.weight, self.eps)

    def add(self, x: Tensor, update: Tensor) -> tuple[Tensor, Tensor]:
        """Return x + update (..., C) and its norm, from one kernel."""
        return self.add_norm(x, update, self.weight, self.eps)


def add_and_norm(norm: nn.Module, x: Tensor, update: Tensor) -> tuple[Tensor, Tensor]:
    """Return x + update (..., C) and its norm."""
    if isinstance(norm, FusedRMSNorm):
        return norm.add(x, update)
    x = x + update
    return x, norm(x)


def make_norm(config: ModelConfig, width: int | None = None) -> nn.Module:
    """Make the config's norm over the last axis, `dim` wide unless `width` is given."""
    width = config.dim if width is None else width
    eps, gain = config.norm_eps, config.norm_gain
    if config.norm == "layernorm":
        return nn.LayerNorm(width, eps=eps, elementwise_affine=gain, bias=config.bias)
    if "norm" in config.fused_kernels:
        return FusedRMSNorm(width, eps=eps, elementwise_affine=gain)
    return nn.RMSNorm(width, eps=eps, elementwise_affine=gain)
