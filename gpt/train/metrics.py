"""MetricSink: where the training loop writes. MLflow implements it in stages/tracking.py."""

import json
from pathlib import Path
from typing import Any, Protocol


class MetricSink(Protocol):
    """Somewhere metrics go. No method may raise or block the training step."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record metrics of one step."""

    def log_config(self, config: dict[str, Any]) -> None:
        """Record dotted configuration values."""

    def log_text(self, name: str, text: str) -> None:
        """Record a text under a file name."""

    def close(self) -> None:
        """Flush and end."""


class JsonlSink:
    """One JSON object a line: `{"step": int, ...metrics}`, appended to a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Append one line and flush it."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()

    def log_config(self, config: dict[str, Any]) -> None:
        """Append the configuration as a line of its own."""
        self._file.write(json.dumps({"config": config}) + "\n")

    def log_text(self, name: str, text: str) -> None:
        """Append the text as a line of its own."""
        self._file.write(json.dumps({"text": name, "value": text}) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
