"""The dials of LoRA."""

from dataclasses import dataclass
from typing import Literal

BasePrecision = Literal["fp32", "bf16", "nf4"]
"""How the frozen projections lie in memory while adapters learn; what is computed with is train.dtype's."""
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "router")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """Low-rank adapters on chosen projections."""

    lora_rank: int
    """R."""
    lora_alpha: float
    """The update is scaled by alpha / R."""
    targets: tuple[str, ...]
    """Names of projections: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj; router in a
    mixture of experts, whose stacked experts carry no adapters."""
    dropout: float
    """On the adapter's input."""
    rank_stabilized: bool = False
    """Scale by alpha / sqrt(R) instead, so that a larger R does not learn more slowly."""

    def __post_init__(self) -> None:
        if self.lora_rank < 1:
            raise ValueError(f"lora_rank: at least 1 is needed, got {self.lora_rank}")
        for target in self.targets:
            if target not in TARGETS:
                raise ValueError(f"targets: {target!r} is no projection; choose from {', '.join(TARGETS)}")
        if not self.targets:
            raise ValueError("targets: empty, so nothing would be trained; name a projection")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: 0 <= dropout < 1 is needed, got {self.dropout}")

    @property
    def scale(self) -> float:
        """What B A x is multiplied by."""
        return self.lora_alpha / (self.lora_rank**0.5 if self.rank_stabilized else self.lora_rank)
