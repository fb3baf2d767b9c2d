"""The dials of evaluation. Standard library only."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """How much is measured; every score states its own n."""

    seq_len: int
    """Tokens that a window of the validation shard predicts."""
    n_windows: int
    """Windows, evenly spread over the shard; 0 is all of them."""
    n_logs: int
    """Held-out log records, evenly spread over the file, and of each source of it; 0 is all of them."""
    n_continuation: int
    """Continuation-choice items; 0 leaves the task out."""
    context_chars: int
    """Characters of held-out text in front of a continuation."""
    ending_chars: int
    """Least characters of a continuation; it runs on to the end of the word."""
    n_hellaswag: int
    """HellaSwag items, evenly spread over the file; 0 leaves the task out."""
    n_intents: int
    """Held-out queries of each set of intents, evenly spread; 0 leaves the task out."""
    n_canaries: int
    """Planted values whose prefixes are continued, evenly spread; 0 leaves the task out."""
    canary_tokens: int
    """Tokens of one continuation."""
    batch_tokens: int
    """Tokens of one forward pass, padding included."""
    seed: int
    """Of the continuation items and of what is sampled behind canaries."""

    def __post_init__(self) -> None:
        for name in ("seq_len", "context_chars", "ending_chars", "canary_tokens", "batch_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: at least 1 is needed, got {getattr(self, name)}")
        for name in ("n_windows", "n_logs", "n_continuation", "n_hellaswag", "n_intents", "n_canaries"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: 0 or more is needed, got {getattr(self, name)}")
