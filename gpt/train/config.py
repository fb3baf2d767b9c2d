"""The dials of the training loop."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gpt.optim.config import OptimConfig

FREE_DIALS = (
    "checkpoint_every",
    "sample_every",
    "sample_tokens",
    "sample_prompts",
    "max_minutes",
    "max_dollars",
    "dollars_per_hour",
)
"""Dials that neither a step nor a logged row depends on: a run resumes across a change of them."""


def shaping_dials(dials: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section `train` without its free dials."""
    return {name: value for name, value in dials.items() if name not in FREE_DIALS}


HeadLoss = Literal["whole", "chunked", "fused"]
"""How the vocabulary head and its loss are computed."""


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
    dtype: Literal["fp32", "bf16", "fp16"]
    """Autocast of the forward pass; weights and optimizer stay fp32. fp16 scales the loss."""
    compile: bool
    """torch.compile: worth its start-up on a GPU, seldom on a laptop."""
    document_mask: bool
    """Attention ends at end-of-text, and no token is learned from another document."""
    recompute_blocks: bool
    """Keep no activations inside a block, compute them again in the backward pass: memory for time."""
    head_loss: HeadLoss = "whole"
    """chunked keeps the gradients of the head and no logits: less memory; fused does a chunk's softmax and
    gradient in one Triton kernel: a CUDA device, or TRITON_INTERPRET=1."""
    eval_every: int
    """Steps between validations; the last step always validates."""
    eval_batches: int
    """Micro batches of one validation."""
    log_every: int
    checkpoint_every: int
    """Steps between resumable checkpoints; 0 writes one only when the run is stopped."""
    spike_sigma: float
    """Skip a step whose loss is so many standard deviations above its running mean; 0 skips none."""
    sample_every: int
    """Steps between texts written by the model, for people to read; 0 writes none."""
    sample_tokens: int
    """Tokens of each such text."""
    sample_prompts: tuple[str, ...]
    """What the texts begin with."""
    max_minutes: float
    """Stop when the run has taken so long, all attempts together; 0 is no limit."""
    max_dollars: float
    """Stop when the run has cost so much, all attempts together; 0 is no limit."""
    dollars_per_hour: float
    """Price of the machine; 0 shows no cost."""
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
        limits = ("max_minutes", "max_dollars", "dollars_per_hour")
        for name in ("checkpoint_every", "spike_sigma", "sample_every", *limits, "balance_loss", "z_loss"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative, got {getattr(self, name)}")
        if self.sample_every and (self.sample_tokens < 1 or not self.sample_prompts):
            raise ValueError(
                "sample_every: sample_tokens of at least 1 and sample_prompts are needed with it"
            )
        if self.max_dollars and not self.dollars_per_hour:
            raise ValueError(f"dollars_per_hour: a price is needed for max_dollars {self.max_dollars}")
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
