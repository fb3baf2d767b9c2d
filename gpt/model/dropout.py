"""Dropout (Srivastava et al. 2014) whose mask is cheap on a CPU.

PyTorch draws one number an element, one thread, about 7 ns each: with nine sites a tenth of a small model's
step, and more once compiled. Here each 64-bit draw decides eight elements, by one byte each, so the
probability is rounded to 1/256 and the kept values are scaled by what it was rounded to. Elsewhere than on
the CPU this is F.dropout.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 256
"""Values of the byte that decides one element."""


@torch.library.custom_op("rawgpt::keep_mask", mutates_args=())
def keep_mask(x: Tensor, dropped_levels: int) -> Tensor:
    """Return a fresh mask of x's shape: False with probability dropped_levels / 256."""
    n = x.numel()
    draws = torch.empty(-(-n // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    return (draws.view(torch.uint8)[:n] >= dropped_levels).view(x.shape)


@keep_mask.register_fake
def _(x: Tensor, dropped_levels: int) -> Tensor:
    return torch.empty(x.shape, dtype=torch.bool, device=x.device)


class Dropout(nn.Module):
    """Zero a share of the elements while training, scale the rest so that the mean stays."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.dropped_levels = round(p * LEVELS)
        if p and not 0 < self.dropped_levels < LEVELS:
            raise ValueError(f"dropout: got {p}; shares below 1/{LEVELS} and above its complement round away")

    def forward(self, x: Tensor) -> Tensor:
        """Map x of any shape to the same shape."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        scale = LEVELS / (LEVELS - self.dropped_levels)
        return x * (keep_mask(x, self.dropped_levels) * scale)
