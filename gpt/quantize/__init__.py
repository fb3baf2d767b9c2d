"""4-bit weights: calibration, GPTQ, the quantized linear layer."""
