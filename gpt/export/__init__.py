"""Models written in the formats that others serve: Hugging Face, GPTQ, GGUF."""
