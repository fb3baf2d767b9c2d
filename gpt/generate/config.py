"""The dials of sampling and of batching. Standard library only, so that a DVC dep on them stays cheap."""

from dataclasses import dataclass

MIN_TEMPERATURE = 1.0e-3
MAX_TEMPERATURE = 100.0
MIN_PENALTY = 0.01
MAX_PENALTY = 100.0
"""Beyond these a logit may leave what fp32 holds, and the step of all that run together would fail."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How the next token is chosen. The dials act in the order of the fields from repetition_penalty on."""

    max_tokens: int
    """Most tokens to generate; the context may end sooner."""
    seed: int
    """Seed of the one generator that draws; the same seed gives the same tokens."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of tokens already seen; 1 turns it off."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the likeliest token (greedy)."""
    top_k: int = 0
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the fewest likeliest tokens whose probabilities sum to at least p."""
    min_p: float = 0.0
    """Keep tokens at least this fraction as likely as the likeliest."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens: at least 1 is needed, got {self.max_tokens}")
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed: a 64-bit whole number is needed, got {self.seed}")
        if not MIN_PENALTY <= self.repetition_penalty <= MAX_PENALTY:
            raise ValueError(
                f"repetition_penalty: {MIN_PENALTY}..{MAX_PENALTY} is needed, got {self.repetition_penalty}"
            )
        if self.temperature != 0 and not MIN_TEMPERATURE <= self.temperature <= MAX_TEMPERATURE:
            raise ValueError(
                f"temperature: 0 (greedy) or {MIN_TEMPERATURE}..{MAX_TEMPERATURE} is needed, "
                f"got {self.temperature}"
            )
        if self.top_k < 0:
            raise ValueError(f"top_k: 0 (all) or more is needed, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: 0 < top_p <= 1 is needed, got {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p: 0 <= min_p <= 1 is needed, got {self.min_p}")


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchConfig:
    """How much is held at once."""

    max_running: int = 64
    """Requests that decode together; the others wait in order."""
    cache_tokens: int = 16384
    """Positions whose keys and values are held, of all requests together; at least one full context."""
    block_tokens: int = 16
    """Positions of one block: what is allocated, shared and given back at a time."""
    max_prompt_tokens: int = 256
    """Most prompt tokens that a step computes beside the tokens being generated."""
    reuse_prefixes: bool = True
    """Keep full blocks for later requests that begin alike."""

    def __post_init__(self) -> None:
        for name in ("max_running", "block_tokens", "cache_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: at least 1 is needed, got {getattr(self, name)}")
        if self.max_prompt_tokens < self.block_tokens:
            raise ValueError(
                f"max_prompt_tokens: at least one block of {self.block_tokens} is needed, "
                f"got {self.max_prompt_tokens}"
            )
