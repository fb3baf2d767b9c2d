"""Randomness inside a step is a function of (seed, step): nothing of it needs saving."""

import hashlib

import torch


def seed_step(seed: int, step: int) -> None:
    """Seed torch's global generators, which dropout draws from, for one step."""
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
