"""The dials of the training loop."""

from dataclasses import dataclass
from typing import Literal

from gpt.optim.config import OptimConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run."""

    seed: int
    steps: int
    """Optimizer steps."""
    seq_len: int
    """T: tokens of one sample."""
    micro_batch_size: int
    """Samples of one forward pass."""
    grad_accumulation: int
    """Forward passes of one optimizer step."""
    dtype: Literal["fp32", "bf16"]
    """Autocast of the forward pass; weights and optimizer stay fp32."""
    compile: bool
    """torch.compile: worth its start-up on a GPU, seldom on a laptop."""
    eval_every: int
    """Steps between validations; the last step always validates."""
    eval_batches: int
    """Micro batches of one validation."""
    log_every: int
    checkpoint_every: int
    """Steps between resumable checkpoints; 0 writes none."""
    balance_loss: float
    """Weight of a mixture's load-balancing loss."""
    z_loss: float
    """Weight of a mixture's router z-loss."""
    optim: OptimConfig

    def __post_init__(self) -> None:
        positive = ("steps", "seq_len", "micro_batch_size", "grad_accumulation", "eval_every")
        for name in (*positive, "eval_batches", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: at least 1 is needed, got {getattr(self, name)}")
        for name in ("checkpoint_every", "balance_loss", "z_loss"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative, got {getattr(self, name)}")
        if self.optim.warmup_steps > self.steps:
            raise ValueError(f"optim.warmup_steps: {self.optim.warmup_steps} exceeds steps {self.steps}")

    @property
    def samples_per_step(self) -> int:
        """Samples of one optimizer step."""
        return self.micro_batch_size * self.grad_accumulation

    @property
    def batch_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.samples_per_step * self.seq_len
