"""Mixed precision: autocast of the forward pass, and fp16's loss scaling.

bf16 has fp32's range and needs no scaling. fp16 gradients underflow: the loss is multiplied by a scale
that halves when a gradient overflows and doubles after a while without (Micikevicius et al. 2017);
torch's GradScaler keeps it, on cuda and, slowly, on cpu.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from gpt.optim.optimizer import Optimizer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[None]:
    """Return the context of a forward pass in this type."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


class Precision:
    """How a step computes: the type of the forward pass and the scale of the loss."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.dtype = DTYPES[name]
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass."""
        return autocast(self.dtype, self.device)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of the scaled loss."""
        self.scaler.scale(loss).backward()

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale; must come before clipping."""
        if self.scaler.is_enabled():
            for part in optimizer.parts.values():
                self.scaler.unscale_(part)

    def update(self) -> None:
        """Adapt the scale to what unscale saw."""
        if self.scaler.is_enabled():
            self.scaler.update()

    def may_overflow(self) -> bool:
        """Return whether an infinite gradient may be the scale's fault: there is room to halve it."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > 1.0
