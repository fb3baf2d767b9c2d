"""Fewer bits: GPTQ, AWQ, rounding, int8 and NF4 over a whole model, and the layers that hold the result."""
