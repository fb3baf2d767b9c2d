"""The dials of growth."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class GrowthConfig:
    """What the grown model is; what is not named here it keeps from its parent."""

    n_layers: int
    """L after growth; new blocks start as the identity."""
    dim: int
    """C after growth."""
    n_heads: int
    """H after growth; the head dim stays, so it is dim / head_dim."""
    n_kv_heads: int
    ffn_dim: int
    """F after growth (of one expert, for a mixture)."""
    n_experts: int
    """E after upcycling; 0 stays dense."""
    n_experts_per_token: int
    seed: int
    """Of the new weights."""
    router_std: float
    """Standard deviation of the new router's weights."""
