"""flows/backends.py: the local one for real; SkyPilot's task, commands and refusals only."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from flows.backends import GROUPS, LocalBackend, SkyPilotBackend, open_backend
from flows.dvc_command import is_running


def _sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)


def _record(root: Path, run_id: str, group: int, created: float) -> Path:
    record = root / GROUPS / f"{run_id}.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"group": group, "created": created}))
    return record


def test_tear_down_ends_what_a_killed_flow_left(tmp_path: Path) -> None:
    """Guards against the crash hook finding nothing to end because another process started it."""
    child = _sleeper()
    record = _record(tmp_path, "r", child.pid, psutil.Process(child.pid).create_time())
    LocalBackend(root=tmp_path, run_id="r").tear_down()
    child.wait(5)
    assert not is_running(child.pid)
    assert not record.exists()
    LocalBackend(root=tmp_path, run_id="r").tear_down()  # twice is no error


def test_tear_down_spares_a_stranger_with_a_reused_number(tmp_path: Path) -> None:
    """Guards against killing somebody else's process after the number was given out again."""
    stranger = _sleeper()
    try:
        _record(tmp_path, "r", stranger.pid, created=1.0)
        LocalBackend(root=tmp_path, run_id="r").tear_down()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_local_backend_runs_a_stage_and_forgets_its_group(project: Path) -> None:
    """Guards against a stale record that a later hook would act on."""
    lines: list[str] = []
    LocalBackend(root=project, run_id="r").run("fetch", force=False, on_line=lines.append)
    assert "working fetch" in lines
    assert list((project / GROUPS).iterdir()) == []


def test_backends_that_cannot_run_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a silent fallback to this machine."""
    with pytest.raises(ValueError, match="backend: got 'lokal'; choose local or skypilot"):
        open_backend("lokal", root=tmp_path, run_id="r", accelerators="")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"'skypilot' needs the `sky` command; pip install"):
        open_backend("skypilot", root=tmp_path, run_id="r", accelerators="A10G:1")


def test_skypilot_task_and_commands(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a task that YAML mangles; a `sky` that only notes its arguments stands in.

    No machine is launched here: this checks what would be handed to SkyPilot, nothing more.
    """
    tools = project / "bin"
    tools.mkdir()
    for name in ("sky", "rsync"):
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {project}/calls\n')
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    with pytest.raises(ValueError, match="there is none; dvc remote add -d NAME URL"):
        open_backend("skypilot", root=project, run_id="0123456789ab", accelerators="A10G:1")
    remote = [sys.executable, "-m", "dvc", "remote", "add", "-d", "store", str(project / "store")]
    subprocess.run(remote, cwd=project, check=True, capture_output=True)
    backend = SkyPilotBackend(root=project, run_id="0123456789ab", accelerators="A10G:1")
    LocalBackend(root=project, run_id="r").run("fetch", force=False, on_line=lambda line: None)
    backend.run("fetch", force=True, on_line=lambda line: None)
    backend.tear_down()
    launched, copied, ended = (project / "calls").read_text().splitlines()
    task = project / GROUPS / "rawgpt-01234567-fetch.yaml"
    assert launched == (
        f"sky launch --yes --cluster rawgpt-01234567 --idle-minutes-to-autostop 10 --down {task}"
    )
    assert copied == "rsync -a rawgpt-01234567:sky_workdir/dvc.lock dvc.lock"
    assert ended == "sky down --yes rawgpt-01234567"
    written = yaml.safe_load(task.read_text())
    assert written["resources"] == {"accelerators": "A10G:1"}
    assert "dvc repro --single-item --force 'fetch'" in written["run"].splitlines()
