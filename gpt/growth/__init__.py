"""A bigger model from a trained one: depth, width, dense to mixture of experts."""
