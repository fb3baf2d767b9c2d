"""LoRA: injected into a model from outside, saved alone, merged."""
