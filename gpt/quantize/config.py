"""The dials of quantization. Standard library only."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizeConfig:
    """GPTQ to packed int4."""

    source: Literal["finetune", "align-dpo", "align-ppo", "align-grpo"] = "finetune"
    """The model that is quantized: dvc.yaml makes its checkpoint the stage's input."""
    bits: Literal[4]
    """Bits of a weight; the packed layout knows 4 alone."""
    group_size: int
    """Inputs that share one fp16 scale; must divide the inputs of every quantized linear."""
    scale: Literal["absmax", "mse"]
    """A group's scale: from its largest weight, or the clipping of it with the least squared error."""
    act_order: bool
    """Quantize the inputs with the largest mean square first; groups stay where they are (static)."""
    damping: float
    """Share of the Hessian's mean diagonal that is added to its diagonal."""
    n_calibration: int
    """Calibration sequences."""
    seq_len: int
    """Tokens of one calibration or test sequence."""
    log_fraction: float
    """Share of the sequences that comes from the logs; the rest comes from the corpus."""
    n_test: int
    """Held-out sequences for the perplexity before and after, in the same mix."""
    seed: int

    def __post_init__(self) -> None:
        if self.group_size < 2 or self.group_size % 2:
            raise ValueError(f"group_size: an even number is needed, got {self.group_size}")
        if not 0 < self.damping <= 1:
            raise ValueError(f"damping: 0 < damping <= 1 is needed, got {self.damping}")
        if not 0 <= self.log_fraction <= 1:
            raise ValueError(f"log_fraction: 0..1 is needed, got {self.log_fraction}")
        for name in ("n_calibration", "seq_len", "n_test"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: at least 1 is needed, got {getattr(self, name)}")
