"""Scores with their n and standard error: perplexity, bits per byte, multiple choice."""
