"""The dials of quantization. Standard library only."""

from dataclasses import dataclass
from typing import Literal

Method = Literal["gptq", "awq", "nearest", "int8", "int8_dynamic", "nf4"]


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizeConfig:
    """One model in fewer bits."""

    source: Literal["finetune", "align-dpo", "align-ppo", "align-grpo"] = "finetune"
    """The model that is quantized: dvc.yaml makes its checkpoint the stage's input."""
    method: Method
    """gptq, awq and nearest are 4 bits on one packed layout, the first two calibrated; int8 rounds weights to
    8 bits an output channel, int8_dynamic activations a token as well; nf4 is QLoRA's 4 bits."""
    group_size: int
    """gptq, awq, nearest: inputs that share one fp16 scale; must divide the inputs of every linear."""
    scale: Literal["absmax", "mse"]
    """gptq: a group's scale, from its largest weight, or the clipping of it with the least squared error."""
    act_order: bool
    """gptq: the inputs with the largest mean square first; groups stay where they are (static)."""
    damping: float
    """gptq: share of the Hessian's mean diagonal that is added to its diagonal."""
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
