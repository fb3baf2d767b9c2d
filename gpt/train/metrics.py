"""MetricSink: where the training loop writes. MLflow implements it in stages/tracking.py."""

import json
import sys
from pathlib import Path
from typing import Any, Protocol

LOG = "log.jsonl"
"""Every logged row of a run, in its resume folder; after a resume the last row of a step counts."""


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
        """Open the file. Raises OSError; later failures cost lines and one warning, never the step."""
        self._file = path.open("a", encoding="utf-8")
        self._has_warned = False

    def _append(self, record: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            print(f"{self._file.name}: lines are lost ({error}); the run itself goes on", file=sys.stderr)
        self._has_warned = True

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Append one line and flush it."""
        self._append({"step": step, **metrics})

    def log_config(self, config: dict[str, Any]) -> None:
        """Append the configuration as a line of its own."""
        self._append({"config": config})

    def log_text(self, name: str, text: str) -> None:
        """Append the text as a line of its own."""
        self._append({"text": name, "value": text})

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError as error:
            self._warn(error)


class Tee:
    """Several sinks as one; whoever opened them closes them."""

    def __init__(self, *sinks: MetricSink) -> None:
        self.sinks = sinks

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record metrics of one step in each."""
        for sink in self.sinks:
            sink.log(step, metrics)

    def log_config(self, config: dict[str, Any]) -> None:
        """Record dotted configuration values in each."""
        for sink in self.sinks:
            sink.log_config(config)

    def log_text(self, name: str, text: str) -> None:
        """Record a text under a file name in each."""
        for sink in self.sinks:
            sink.log_text(name, text)

    def close(self) -> None:
        """Do nothing: the sinks are not its own."""
