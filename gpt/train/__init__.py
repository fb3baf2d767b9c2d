"""The one training loop and what it owns: state, metrics, validation, throughput."""
