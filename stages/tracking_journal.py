"""What a stage's process writes of its run: a journal on disk, and who it was that ran.

A record is one JSON line in `mlflow/spill/<session>/journal.jsonl`, written in microseconds and
safe from `kill -9` as soon as it is written. stages/tracking.py brings it to MLflow from another
process. Not here: mlflow, and what is worth recording, which gpt/ and the stages decide.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from gpt.config import read_params

JOURNAL = "journal.jsonl"


class NullSink:
    """Records nothing: RAWGPT_TRACKING=off."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Drop the metrics."""

    def log_config(self, config: dict[str, Any]) -> None:
        """Drop the configuration."""

    def log_text(self, name: str, text: str) -> None:
        """Drop the text."""

    def close(self) -> None:
        """Do nothing."""


class JournalSink:
    """A MetricSink that appends to a journal and holds the journal's lock while it is open."""

    def __init__(self, folder: Path, header: dict[str, Any]) -> None:
        """Begin the journal with a header. Raises OSError."""
        folder.mkdir(parents=True)
        self.folder = folder
        self._mutex = threading.Lock()
        self._has_warned = False
        self._file = (folder / JOURNAL).open("a", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX)  # the kernel frees it when this process dies
        self.append({"open": header})

    def append(self, record: dict[str, Any]) -> None:
        """Write one record; a full disk or an odd value costs a warning, never the step."""
        try:
            line = json.dumps(record | {"t": time.time_ns() // 1_000_000}, default=float) + "\n"
            with self._mutex:
                self._file.write(line)
                self._file.flush()
        except (OSError, TypeError, ValueError) as error:
            self._lose(error)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record metrics of one step."""
        try:
            values = {name: float(value) for name, value in metrics.items()}
        except (TypeError, ValueError) as error:
            self._lose(error)
        else:
            self.append({"step": step, "metrics": values})

    def log_config(self, config: dict[str, Any]) -> None:
        """Record dotted values as params of the stage's run."""
        self.append({"params": config})

    def log_text(self, name: str, text: str) -> None:
        """Record a text as an artefact called `name`, a relative path."""
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.name:
            self._lose(ValueError(f"{name!r} is not a relative file name"))
        else:
            self.append({"text": text, "name": path.as_posix()})

    def _lose(self, error: Exception) -> None:
        """Warn, once, that a record cannot be written."""
        if not self._has_warned:
            warn(f"a record was lost ({error}); the run itself goes on")
        self._has_warned = True

    def close(self) -> None:
        """Let go of the journal."""
        try:
            self._file.close()
        except OSError as error:
            warn(f"the journal's last lines were lost ({error})")


def warn(message: str) -> None:
    """Print one line on stderr."""
    print(f"tracking: {message}", file=sys.stderr, flush=True)


def pipeline_of(workspace: Path) -> dict[str, Any]:
    """Identify the pipeline that runs in a workspace: its key, its name, its dotted params."""
    path = workspace / "params.yaml"
    params_hash = hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()[:8]
    experiment = os.environ.get("DVC_EXP_NAME", "")
    code = hashlib.sha256()
    for file in sorted(f for house in ("gpt", "stages") for f in (workspace / house).rglob("*.py")):
        code.update(file.relative_to(workspace).as_posix().encode() + file.read_bytes())
    name = experiment or _git(workspace, "rev-parse", "--short=7", "HEAD") or "nogit"
    return {
        "key": f"{experiment or code.hexdigest()[:16]}-{params_hash}",
        "name": f"{name}-{params_hash}",
        "params": dict(_dotted(read_params(path), "")) if path.exists() else {},
    }


def tags_of(workspace: Path) -> dict[str, str]:
    """Return the tags of a run: git sha, dvc.lock's hash, the machine."""
    lock = workspace / "dvc.lock"
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text() if cpuinfo.exists() else "")
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = "none"
    return {
        "git_sha": _git(workspace, "rev-parse", "HEAD") or "none",
        "git_dirty": str(bool(_git(workspace, "status", "--porcelain", "-uno"))).lower(),
        "dvc_lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else "none",
        "machine.cpu": named.group(1) if named else platform.processor() or platform.machine(),
        "machine.cores": str(os.cpu_count()),
        "machine.torch": torch,
        "machine.gpu": ", ".join(name for name, _, _ in gpus()) or "none",
    }


def gpus() -> list[tuple[str, float, float]]:
    """Name, load in percent and used bytes of each NVIDIA GPU; none without nvidia-ml-py."""
    if importlib.util.find_spec("pynvml") is None:
        return []
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [
            (
                str(pynvml.nvmlDeviceGetName(handle)),
                float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
                float(pynvml.nvmlDeviceGetMemoryInfo(handle).used),
            )
            for handle in handles
        ]
    except pynvml.NVMLError:  # the package is here, a driver is not
        return []


def _git(workspace: Path, *arguments: str) -> str:
    command = ["git", "-C", str(workspace), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _dotted(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _dotted(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, node
