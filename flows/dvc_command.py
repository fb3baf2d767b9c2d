"""Run `dvc repro` for one stage as a process group that ends when this process ends.

DVC exits with 255 whatever the stage's code was; the stage's own code stands in DVC's last line,
`failed to run: ..., exited with 75`. A stage's codes: 1 the user's mistake, 2 a fault of ours,
75 a failure that may pass.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

EXIT_RETRY = 75
GRACE_S = 10.0
POLL_S = 0.1
PR_SET_PDEATHSIG = 1
FAILED_LINE = re.compile(r"failed to reproduce .*exited with (-?\d+)\s*$")
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class StageFailed(RuntimeError):
    """A stage ended with another code than 0."""

    def __init__(self, stage: str, exit_code: int) -> None:
        super().__init__(f"{stage}: exit code {exit_code}; its lines are in the log above")
        self.stage = stage
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type["StageFailed"], tuple[str, int]]:
        return type(self), (self.stage, self.exit_code)  # Prefect sends it between processes

    @property
    def is_passing(self) -> bool:
        """Whether a retry may help."""
        return self.exit_code == EXIT_RETRY


def repro(
    stage: str,
    *,
    root: Path,
    force: bool = False,
    on_line: Callable[[str], None],
    on_start: Callable[[int], None] = lambda pid: None,
) -> None:
    """Run one stage, handing on each line it prints. Raises StageFailed.

    `on_start` is told the process group's id.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
    run_group([*command, "--force"] if force else command, stage, root, on_line, on_start)


def run_group(
    command: list[str],
    stage: str,
    root: Path,
    on_line: Callable[[str], None],
    on_start: Callable[[int], None] = lambda pid: None,
) -> None:
    """Run a command in its own process group; leave none of it behind. Raises StageFailed."""
    process = subprocess.Popen(
        command,
        cwd=root,
        env=os.environ | {"PATH": _own_path(), "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )
    stage_code: int | None = None
    try:
        on_start(process.pid)
        assert process.stdout is not None
        for line in process.stdout:
            on_line(line.rstrip())
            found = FAILED_LINE.search(line)
            stage_code = int(found.group(1)) if found else stage_code
        code = process.wait()
    finally:  # an exception here is a cancellation: Prefect raises it in the middle of a line
        end_group(process.pid)
        process.wait()
    if code != 0:
        raise StageFailed(stage, stage_code if stage_code is not None else code)


def end_group(group: int, grace_s: float = GRACE_S) -> None:
    """End a process group: SIGTERM, then SIGKILL after a grace; do nothing if it is gone."""
    deadline = time.monotonic() + grace_s
    try:
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline and is_running(group):
            time.sleep(POLL_S)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def is_running(group: int) -> bool:
    """Whether a live process is left in the group; a zombie is not one."""
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue  # it ended while we looked
    return False


def _own_path() -> str:
    """PATH with this interpreter first: a stage's `python` is the one that runs the flow."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _die_with_parent() -> None:
    """Have Linux kill DVC when the flow's process is killed; the stage then ends itself."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
