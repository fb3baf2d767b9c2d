"""Weights on disk: safetensors, hash manifest, atomic save, resume."""
