"""Attention backends and packed 4-bit weights: the places where speed is decided."""
