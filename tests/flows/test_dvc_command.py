"""flows/dvc_command.py with a real `dvc repro`: exit codes, lines, and nothing left behind."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.dvc_command import StageFailed, end_group, is_running, repro

REPO = Path(__file__).parents[2]


@pytest.mark.parametrize("code", [1, 2, 75])
def test_the_stages_own_exit_code_comes_through(project: Path, plan: Callable[..., None], code: int) -> None:
    """Guards against DVC's 255 hiding the 75 that alone is retried."""
    plan(fetch={"codes": [code]})
    lines: list[str] = []
    with pytest.raises(StageFailed, match=f"^fetch: exit code {code};") as failure:
        repro("fetch", root=project, on_line=lines.append)
    assert failure.value.exit_code == code
    assert failure.value.is_passing == (code == 75)
    assert "working fetch" in lines
    assert pickle.loads(pickle.dumps(failure.value)).exit_code == code


def test_a_fault_of_dvc_itself_is_never_passing(project: Path) -> None:
    """Guards against retrying a stage that does not exist."""
    with pytest.raises(StageFailed) as failure:
        repro("nosuch", root=project, on_line=lambda line: None)
    assert failure.value.exit_code == 255
    assert not failure.value.is_passing


def test_force_runs_an_unchanged_stage_again(project: Path) -> None:
    """Guards against `force` being dropped on the way to DVC."""
    for force, tries in ((False, "1"), (False, "1"), (True, "2")):
        repro("fetch", root=project, force=force, on_line=lambda line: None)
        assert (project / "tries-fetch").read_text() == tries


def test_a_cancellation_ends_the_whole_group(project: Path, plan: Callable[..., None]) -> None:
    """Guards against a cancelled flow leaving DVC or the stage training on."""
    plan(fetch={"sleep_s": 60})
    groups: list[int] = []

    def cancel(line: str) -> None:
        if line == "working fetch":
            assert is_running(groups[0])
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        repro("fetch", root=project, on_line=cancel, on_start=groups.append)
    assert not is_running(groups[0])
    assert time.monotonic() - started < 20


def test_a_group_that_ignores_sigterm_is_killed() -> None:
    """Guards against a polite request being the only one."""
    code = "import signal,time;signal.signal(15,signal.SIG_IGN);print(1,flush=True);time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    end_group(process.pid, grace_s=0.3)
    assert process.wait(5) == -signal.SIGKILL
    end_group(process.pid)  # a group that is gone is no error


@pytest.mark.skipif(sys.platform != "linux", reason="a parent-death signal is Linux's")
def test_dvc_dies_with_a_killed_flow(project: Path, plan: Callable[..., None]) -> None:
    """Guards against `kill -9` of the flow leaving a `dvc repro` that starts further stages."""
    plan(fetch={"sleep_s": 30})
    program = (
        "from pathlib import Path; from flows.dvc_command import repro;"
        "say = lambda x: print(x, flush=True);"
        f"repro('fetch', root=Path({str(project)!r}), on_line=say, on_start=say)"
    )
    flow = subprocess.Popen([sys.executable, "-c", program], cwd=REPO, stdout=subprocess.PIPE, text=True)
    assert flow.stdout is not None
    group = int(flow.stdout.readline())
    try:
        assert any(line.strip() == "working fetch" for line in flow.stdout)
        flow.kill()
        flow.wait()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and _is_alive(group):
            time.sleep(0.05)
        assert not _is_alive(group), "dvc outlived the flow"
    finally:
        end_group(group, grace_s=1)
    assert not is_running(group)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return status != "Z"
