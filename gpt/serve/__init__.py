"""The HTTP API over one open model."""
