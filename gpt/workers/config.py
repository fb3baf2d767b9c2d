"""How many processes share work that falls into parts. Standard library only."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkersConfig:
    """Where parts are worked on."""

    processes: int
    """Processes on this machine; 0 takes one for each core that this process may use."""

    def __post_init__(self) -> None:
        if self.processes < 0:
            raise ValueError(f"processes: 0 (one a core) or more is needed, got {self.processes}")
