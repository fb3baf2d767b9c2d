"""open_model: the one way to open a model."""
