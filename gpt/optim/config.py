"""The dials of optimization."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """Optimizer and learning-rate schedule."""

    name: Literal["adamw", "muon"]
    """muon: Muon on the matrices of the blocks, AdamW on the rest."""
    lr: float
    """Peak learning rate of AdamW."""
    matrix_lr: float
    """Peak learning rate of Muon; unused by adamw."""
    beta1: float
    beta2: float
    weight_decay: float
    """Decoupled; on matrices alone, never on norms and biases."""
    schedule: Literal["cosine", "wsd"]
    """cosine to min_lr_ratio; wsd: warm-up, stable, linear decay."""
    warmup_steps: int
    decay_fraction: float
    """Share of the steps in wsd's final decay."""
    min_lr_ratio: float
    """Final learning rate over the peak."""
    max_grad_norm: float
    """Clip the global gradient norm; 0 turns it off."""

    def __post_init__(self) -> None:
        for name in ("lr", "matrix_lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: must be positive, got {getattr(self, name)}")
        for name in ("beta1", "beta2", "decay_fraction", "min_lr_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: 0..1 is needed, got {getattr(self, name)}")
        for name in ("weight_decay", "warmup_steps", "max_grad_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative, got {getattr(self, name)}")
