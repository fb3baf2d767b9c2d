"""The dials of sharding."""

from dataclasses import dataclass

from gpt.workers.config import WorkersConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardConfig:
    """Token files of the train and validation splits."""

    min_train_tokens: int
    """Refuse a train split with fewer tokens: it would not fill one context."""
    part_mb: float
    """Megabytes (2^20 bytes) of documents.jsonl that make one shard a split: what a worker takes at a time,
    and what a kill costs each of them."""
    workers: WorkersConfig
    """Who encodes the parts; the shards are the same whoever does."""

    def __post_init__(self) -> None:
        if self.part_mb <= 0:
            raise ValueError(f"part_mb: more than 0 is needed, got {self.part_mb}; usual is 64")
        if self.min_train_tokens < 1:
            raise ValueError(f"min_train_tokens: at least 1 is needed, got {self.min_train_tokens}")

    @property
    def part_bytes(self) -> int:
        """Bytes of one part."""
        return max(1, round(self.part_mb * 2**20))
