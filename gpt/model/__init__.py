"""One transformer by configuration: GPT-2 mode, modern mode, mixture of experts."""
