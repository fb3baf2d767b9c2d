"""A linear layer with weights in int8, one scale an output channel; its activations float, or int8 too."""

from typing import Self

import torch
from torch import Tensor, nn

from gpt.kernels.int8_matmul import int8_dynamic_linear, int8_linear, int8_rows


class Int8Linear(nn.Module):
    """y = x W^T + b with W in int8. Drop-in for nn.Linear at inference."""

    codes: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, *, dynamic: bool, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features, self.dynamic = in_features, out_features, dynamic
        self.register_buffer("codes", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scales", torch.ones(out_features))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

    @classmethod
    def from_linear(cls, linear: nn.Linear, *, dynamic: bool) -> Self:
        """Round a linear's weight to nearest; `dynamic` rounds each token's activations as well."""
        new = cls(linear.in_features, linear.out_features, dynamic=dynamic, bias=linear.bias is not None)
        codes, scales = int8_rows(linear.weight.detach())
        new.codes, new.scales = codes, scales[:, 0]
        if linear.bias is not None:
            new.bias = linear.bias.detach().float().clone()
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out)."""
        linear = int8_dynamic_linear if self.dynamic else int8_linear
        y = linear(x, self.codes, self.scales)  # (..., out)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def dequantized(self) -> Tensor:
        """Return the weight that this layer multiplies by, float32 (out, in)."""
        return self.codes.float() * self.scales[:, None]

    def extra_repr(self) -> str:
        """Show the sizes when a model is printed."""
        return f"{self.in_features}, {self.out_features}, bits=8, dynamic={self.dynamic}"
