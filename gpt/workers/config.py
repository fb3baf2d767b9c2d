"""Who shares work that falls into parts. Standard library only."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkersConfig:
    """Where parts are worked on."""

    processes: int
    """Processes on this machine (engine local); 0 takes one for each core that this process may use."""
    engine: Literal["local", "dask"] = "local"
    """local: this machine. dask: the workers of a Dask scheduler, which see the project's folder at the same
    path as this machine (docs/decisions/large_corpora.md)."""
    address: str = ""
    """Address of the Dask scheduler, such as tcp://10.0.0.5:8786; empty for local."""

    def __post_init__(self) -> None:
        if self.processes < 0:
            raise ValueError(f"processes: 0 (one a core) or more is needed, got {self.processes}")
        if self.engine == "dask" and not self.address:
            raise ValueError("address: engine dask needs its scheduler's, such as tcp://10.0.0.5:8786")
        if self.engine == "local" and self.address:
            raise ValueError(f"address: {self.address} is of no use to engine local; set engine to dask")
