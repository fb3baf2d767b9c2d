"""The dials of sharding."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardConfig:
    """Token files of the train and validation splits."""

    min_train_tokens: int
    """Refuse a train split with fewer tokens: it would not fill one context."""
