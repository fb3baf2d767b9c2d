"""A linear layer whose weights stay packed in 4 bits; its state_dict is the packed layout."""

from typing import Self

import torch
from torch import Tensor, nn

from gpt.kernels.int4_matmul import int4_linear
from gpt.kernels.int4_packing import dequantize, pack_int4


class QuantizedLinear(nn.Module):
    """y = x W^T + b with W packed. Drop-in for nn.Linear at inference."""

    packed: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, *, group_size: int, bias: bool) -> None:
        super().__init__()
        assert in_features % group_size == 0, (in_features, group_size)
        self.in_features, self.out_features, self.group_size = in_features, out_features, group_size
        self.register_buffer("packed", torch.zeros(out_features, in_features // 2, dtype=torch.uint8))
        scales = torch.ones(out_features, in_features // group_size, dtype=torch.float16)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

    @classmethod
    def from_linear(cls, linear: nn.Linear, codes: Tensor, scales: Tensor) -> Self:
        """Take a linear's shape and bias, and codes uint8 (out, in), scales float16 (out, in/g)."""
        group_size = linear.in_features // scales.shape[1]
        new = cls(
            linear.in_features, linear.out_features, group_size=group_size, bias=linear.bias is not None
        )
        assert scales.dtype == torch.float16, scales.dtype
        assert scales.shape == new.scales.shape, (scales.shape, new.scales.shape)
        new.packed = pack_int4(codes)
        new.scales = scales.contiguous()
        if linear.bias is not None:
            new.bias = linear.bias.detach().float().clone()
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out)."""
        y = int4_linear(x, self.packed, self.scales)  # (..., out)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def dequantized(self) -> Tensor:
        """Return the weight that this layer multiplies by, float32 (out, in)."""
        return dequantize(self.packed, self.scales)

    def extra_repr(self) -> str:
        """Show the sizes when a model is printed."""
        return f"{self.in_features}, {self.out_features}, bits=4, group_size={self.group_size}"
