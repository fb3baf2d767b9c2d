"""The dials of the ladder: one small setting shared by all rungs, so that only the idea differs."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class LadderModelConfig:
    """Sizes of the teaching models."""

    context: int
    """T: characters that a rung may look back at (the bigram looks at one)."""
    dim: int
    """C."""
    n_heads: int
    """H of the multi-head rungs."""
    n_blocks: int
    """Blocks of the last rung."""
