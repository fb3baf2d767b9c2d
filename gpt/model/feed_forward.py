"""The dense feed-forward: SwiGLU (Shazeer 2020), GELU (GPT-2's tanh form) or squared ReLU (So 2021)."""

import torch.nn.functional as F
from torch import Tensor, nn

from gpt.model.config import ModelConfig


def activate(up: Tensor, gate: Tensor | None, activation: str) -> Tensor:
    """Apply the activation by name; `gate` is used by swiglu alone."""
    if activation == "swiglu":
        assert gate is not None
        return F.silu(gate) * up
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

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        gate = self.gate_proj(x) if self.activation == "swiglu" else None  # (B, T, F)
        return self.down_proj(activate(self.up_proj(x), gate, self.activation))  # (B, T, C)
