"""A linear layer with weights in NF4, double quantization included; its state_dict is the packed layout.

For finished models. The frozen base under adapters has a layer of its own (gpt/adapters/frozen.py), with a
gradient to x and without a place on disk; the codes are the same (gpt/kernels/nf4_packing.py).
"""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.kernels.nf4_packing import BLOCK, SCALE_BLOCK, Nf4, dequantize, quantize


class Nf4Linear(nn.Module):
    """y = x W^T + b with W packed; unpacked whole for each call. Drop-in for nn.Linear at inference."""

    packed: Tensor
    scale_codes: Tensor
    scale_scales: Tensor
    scale_mean: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        n_blocks = in_features * out_features // BLOCK
        assert n_blocks * BLOCK == in_features * out_features, (in_features, out_features)
        self.register_buffer("packed", torch.zeros(n_blocks * BLOCK // 2, dtype=torch.uint8))
        self.register_buffer("scale_codes", torch.zeros(n_blocks, dtype=torch.uint8))
        self.register_buffer("scale_scales", torch.zeros(-(-n_blocks // SCALE_BLOCK)))
        self.register_buffer("scale_mean", torch.zeros(()))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> Self:
        """Pack a linear's weight."""
        new = cls(linear.in_features, linear.out_features, bias=linear.bias is not None)
        nf4 = quantize(linear.weight)
        new.packed, new.scale_codes = nf4.packed, nf4.scale_codes
        new.scale_scales, new.scale_mean = nf4.scale_scales, nf4.scale_mean
        if linear.bias is not None:
            new.bias = linear.bias.detach().float().clone()
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out)."""
        y = F.linear(x, self.dequantized().to(x.dtype))  # (..., out)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def dequantized(self) -> Tensor:
        """Return the weight that this layer multiplies by, float32 (out, in)."""
        return dequantize(
            Nf4(
                packed=self.packed,
                scale_codes=self.scale_codes,
                scale_scales=self.scale_scales,
                scale_mean=self.scale_mean,
                shape=(self.out_features, self.in_features),
            )
        )

    def extra_repr(self) -> str:
        """Show the sizes when a model is printed."""
        return f"{self.in_features}, {self.out_features}, nf4"
