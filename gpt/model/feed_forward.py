"""The dense feed-forward: SwiGLU (Shazeer 2020), GELU (GPT-2's tanh form) or squared ReLU (So 2021)."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from gpt.kernels.fused_kernels import fused_kernel
from gpt.model.config import ModelConfig

Swiglu = Callable[[Tensor, Tensor], Tensor]


def activate(up: Tensor, gate: Tensor | None, activation: str, fused: Swiglu | None = None) -> Tensor:
    """Apply the activation by name; `gate` and a kernel that fuses it are used by swiglu alone."""
    if activation == "swiglu":
        assert gate is not None
        return F.silu(gate) * up if fused is None else fused(gate, up)
    if activation == "gelu":
        return F.gelu(up, approximate="tanh")
    assert activation == "relu2", activation
    return F.relu(up).square()


class FeedForward(nn.Module):
    """Feed-forward of one block: C -> F -> C."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        if config.activation == "swiglu":
            self.gate_proj = nn.Linear(config.dim, config.ffn_dim, bias=config.bias)
        self.up_proj = nn.Linear(config.dim, config.ffn_dim, bias=config.bias)
        self.down_proj = nn.Linear(config.ffn_dim, config.dim, bias=config.bias)
        self.fused = fused_kernel("swiglu") if "swiglu" in config.fused_kernels else None

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        gate = self.gate_proj(x) if self.activation == "swiglu" else None  # (B, T, F)
        return self.down_proj(activate(self.up_proj(x), gate, self.activation, self.fused))  # (B, T, C)
