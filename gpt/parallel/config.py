"""The dials of training on several ranks."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelConfig:
    """`machine.parallel`: how many processes train one model, and what divides it among them."""

    engine: Literal["zero3", "fsdp2"]
    """zero3: ours; fsdp2: PyTorch's `fully_shard`. Unused by one rank."""
    ranks: int
    """All of them, on all machines; 1 trains in the stage's own process."""
    timeout_s: float
    """A rank that answers no collective for so long is lost."""
    experts: Literal["gathered", "across"] = "gathered"
    """Of a mixture. gathered: like all else, a rank gathers every expert for its tokens; across: a rank keeps
    E / ranks experts whole and tokens travel to them (zero3 alone). The numbers are the same."""

    def __post_init__(self) -> None:
        if self.ranks < 1:
            raise ValueError(f"ranks: at least 1 is needed, got {self.ranks}")
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s: a positive number of seconds is needed, got {self.timeout_s}")
        if self.experts == "across" and self.engine != "zero3":
            raise ValueError(
                f"experts: across needs engine zero3, got {self.engine}; write gathered or zero3"
            )
