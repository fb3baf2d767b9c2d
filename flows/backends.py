"""Where a stage runs: this machine, or a cloud machine that SkyPilot rents for it.

LocalBackend is what `make repro` and the tests run. SkyPilotBackend needs the `sky` extra, cloud
credentials and a DVC remote (`dvc remote list`); in this repository only its task file, its commands
and its refusals are tested, never a launch.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
import yaml

from flows.dvc_command import end_group, repro, run_group

GROUPS = Path("models/.locks/flows")
TEAR_DOWN_LIMIT_S = 600.0


class Backend(Protocol):
    """Runs stages for one flow run, which it knows by `run_id`."""

    def run(self, stage: str, *, force: bool, on_line: Callable[[str], None]) -> None:
        """Run one stage to its end. Raises dvc_command.StageFailed."""

    def tear_down(self) -> None:
        """End whatever the flow run left, from any process; do nothing when nothing is left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalBackend:
    """`dvc repro` on this machine."""

    root: Path
    run_id: str

    def run(self, stage: str, *, force: bool, on_line: Callable[[str], None]) -> None:
        """Run one stage to its end. Raises dvc_command.StageFailed."""
        self._record.parent.mkdir(parents=True, exist_ok=True)
        try:
            repro(stage, root=self.root, force=force, on_line=on_line, on_start=self._remember)
        finally:
            self._record.unlink(missing_ok=True)

    def tear_down(self) -> None:
        """End the process group that a killed flow left running."""
        try:
            record = json.loads(self._record.read_text())
        except FileNotFoundError:
            return
        group = record["group"]
        leader = psutil.Process(group) if psutil.pid_exists(group) else None
        if leader is None or leader.create_time() == record["created"]:  # not a reused number
            end_group(group)
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.root / GROUPS / f"{self.run_id}.json"

    def _remember(self, group: int) -> None:
        created = psutil.Process(group).create_time()
        self._record.write_text(json.dumps({"group": group, "created": created}))


@dataclass(frozen=True, kw_only=True, slots=True)
class SkyPilotBackend:
    """One cloud machine for one flow run; results come back through the DVC remote."""

    root: Path
    run_id: str
    accelerators: str
    """SkyPilot's notation: `A10G:1`, `H100:8`."""
    idle_minutes: int = 10
    """The machine ends itself after so long without a job."""

    def __post_init__(self) -> None:
        if shutil.which("sky") is None:
            raise ValueError("backend: 'skypilot' needs the `sky` command; pip install '.[sky]'")
        if not _dvc(self.root, "remote", "list"):
            raise ValueError(
                "backend: 'skypilot' brings results back through a DVC remote and there is none; "
                "dvc remote add -d NAME URL"
            )

    @property
    def cluster(self) -> str:
        """The machine's name, from which anyone can end it: `sky down NAME`."""
        return f"rawgpt-{self.run_id[:8]}"

    def task(self, stage: str, *, force: bool) -> dict[str, object]:
        """Return SkyPilot's task for one stage."""
        repro_line = f"dvc repro --single-item {'--force ' if force else ''}'{stage}'"
        return {
            "name": f"rawgpt-{stage.replace('@', '-')}",
            "workdir": str(self.root),
            "resources": {"accelerators": self.accelerators},
            "setup": "make setup",
            "run": "\n".join(
                [
                    "set -e",
                    ". .venv/bin/activate",
                    "dvc pull --allow-missing",
                    repro_line,
                    f"dvc push '{stage}'",
                ]
            ),
        }

    def run(self, stage: str, *, force: bool, on_line: Callable[[str], None]) -> None:
        """Launch, wait, and bring the lock and the results back. Raises StageFailed."""
        folder = self.root / GROUPS
        folder.mkdir(parents=True, exist_ok=True)
        task = folder / f"{self.cluster}-{stage.replace('@', '-')}.yaml"
        task.write_text(yaml.safe_dump(self.task(stage, force=force), sort_keys=False))
        launch = ["sky", "launch", "--yes", "--cluster", self.cluster]
        stop = ["--idle-minutes-to-autostop", str(self.idle_minutes), "--down"]
        run_group([*launch, *stop, str(task)], stage, self.root, on_line)
        fetch_lock = ["rsync", "-a", f"{self.cluster}:sky_workdir/dvc.lock", "dvc.lock"]
        run_group(fetch_lock, stage, self.root, on_line)
        run_group([sys.executable, "-m", "dvc", "pull", stage], stage, self.root, on_line)

    def tear_down(self) -> None:
        """End the machine. Raises CalledProcessError when it may still cost money."""
        command = ["sky", "down", "--yes", self.cluster]
        subprocess.run(command, cwd=self.root, check=True, timeout=TEAR_DOWN_LIMIT_S)


def open_backend(name: str, *, root: Path, run_id: str, accelerators: str) -> Backend:
    """Return the backend called `name`. Raises ValueError that says what is missing."""
    if name == "local":
        return LocalBackend(root=root, run_id=run_id)
    if name == "skypilot":
        return SkyPilotBackend(root=root, run_id=run_id, accelerators=accelerators)
    raise ValueError(f"backend: got {name!r}; choose local or skypilot")


def _dvc(root: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
