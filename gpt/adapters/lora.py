"""LoRA: y = W x + (alpha / R) B A x, with W frozen (Hu et al. 2021, eq. 3).

A starts uniform in +-1/sqrt(in) and B at zero, so an adapted model starts as its base, exactly. The model
knows nothing of this: `inject_lora` swaps its linear layers from outside, `merge_lora` folds them back.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.adapters.config import LoraConfig


class LoraLinear(nn.Module):
    """A frozen linear layer and its low-rank update."""

    def __init__(self, base: nn.Linear, config: LoraConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = config.lora_alpha / config.lora_rank
        bound = base.in_features**-0.5
        a = torch.rand(config.lora_rank, base.in_features, generator=generator) * 2 * bound - bound
        self.lora_a = nn.Parameter(a)  # (R, in)
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, config.lora_rank))  # (out, R)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out)."""
        update = F.linear(F.linear(self.dropout(x), self.lora_a), self.lora_b)
        return self.base(x) + self.scale * update

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the base layer with the update added to its weight."""
        self.base.weight += self.scale * (self.lora_b @ self.lora_a)
        return self.base


def inject_lora(model: nn.Module, config: LoraConfig, seed: int) -> int:
    """Freeze the model and put adapters on the target projections; return how many were placed.

    Raises ValueError when a target's name matches no layer of this model.
    """
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    placed = 0
    for target in config.targets:
        homes = [
            (parent, child)
            for parent in model.modules()
            for name, child in parent.named_children()
            if name == target and isinstance(child, nn.Linear)
        ]
        if not homes:
            raise ValueError(f"targets: the model has no linear layer named {target!r}")
        for parent, child in homes:
            setattr(parent, target, LoraLinear(child, config, generator))
        placed += len(homes)
    return placed


def lora_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the adapter's own tensors by name."""
    return {n: p.detach() for n, p in model.named_parameters() if ".lora_" in n}


def merge_lora(model: nn.Module) -> None:
    """Fold every adapter into its base layer, in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLinear):
                setattr(parent, name, child.merged())
