"""The front door: the `rawgpt` command."""
