"""The limits of the server. Standard library only."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """What one server lets in."""

    max_body_bytes: int = 2**20
    """Longest request body."""
    max_waiting: int = 8
    """Requests that may wait for the one that generates; the next is answered 429."""
    retry_after_s: int = 1
    """What a refused client is told to wait."""
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    """Host headers answered, without port; `*` answers all. Keeps a web page from reaching a loopback
    server under a name of its own."""

    def __post_init__(self) -> None:
        if self.max_body_bytes < 1:
            raise ValueError(f"max_body_bytes: at least 1 is needed, got {self.max_body_bytes}")
        if self.max_waiting < 0:
            raise ValueError(f"max_waiting: 0 or more is needed, got {self.max_waiting}")
        if self.retry_after_s < 1:
            raise ValueError(f"retry_after_s: at least 1 is needed, got {self.retry_after_s}")
        if not self.allowed_hosts:
            raise ValueError("allowed_hosts: it is empty; name a host, or * for all")
