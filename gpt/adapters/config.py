"""The dials of LoRA."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """Low-rank adapters on chosen projections."""

    lora_rank: int
    """R."""
    lora_alpha: float
    """The update is scaled by alpha / R."""
    targets: tuple[str, ...]
    """Names of projections: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj."""
    dropout: float
    """On the adapter's input."""

    def __post_init__(self) -> None:
        if self.lora_rank < 1:
            raise ValueError(f"lora_rank: at least 1 is needed, got {self.lora_rank}")
        known = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
        for target in self.targets:
            if target not in known:
                raise ValueError(f"targets: {target!r} is no projection; choose from {', '.join(known)}")
        if not self.targets:
            raise ValueError("targets: empty, so nothing would be trained; name a projection")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: 0 <= dropout < 1 is needed, got {self.dropout}")
