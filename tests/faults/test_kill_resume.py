"""kill -9, two starts at once, a dead parent: the same command ends with the same weights."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt.checkpoint.manifest import check_manifest
from tests.stages.conftest import CHAIN, ROOT, project, run_chain  # noqa: F401 (a fixture)

CHECKPOINT = Path("models/pretrain/checkpoint")


def start(name: str = "pretrain") -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAWGPT_TRACKING": "off"}
    command = [sys.executable, "-m", f"stages.{name}", *CHAIN[name]]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def lengthen_run(steps: int) -> None:
    path = Path("params.yaml")
    text = path.read_text()
    path.write_text(text.replace("steps: 6\n", f"steps: {steps}\n"))


def test_killed_and_resumed_equals_uninterrupted(project: Path) -> None:  # noqa: F811
    """Guards: anything that the next step depends on and that is not saved. Three kills at random
    moments; whether one falls inside a save is chance (test_exact_resume.py kills inside one)."""
    lengthen_run(60)
    run_chain("pretrain")
    expected = check_manifest(CHECKPOINT)
    rng, resumed, kills = random.Random(0), 0, 0
    while True:
        process = start()
        assert process.stdout is not None
        lines_to_wait_for = rng.randint(2, 12) if kills < 3 else 10**9
        for line in process.stdout:
            resumed += "resumed at step" in line
            lines_to_wait_for -= 1
            if lines_to_wait_for == 0:
                time.sleep(rng.random() * 0.05)
                process.kill()
                kills += 1
        if process.wait(timeout=60) == 0:
            break
    assert kills == 3
    assert resumed >= 2
    assert check_manifest(CHECKPOINT) == expected


def test_a_stage_started_twice_is_refused_with_the_pid(project: Path) -> None:  # noqa: F811
    """Guards: two processes that write the same folder."""
    lengthen_run(100_000)
    run_chain("shard")
    first = start()
    try:
        assert first.stdout is not None
        first.stdout.readline()  # a step was taken: the lock is held
        second = start()
        output, _ = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f"pretrain: already running as process {first.pid}" in output
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
    third = start()  # the lock died with its owner: no manual unlock
    try:
        assert third.stdout is not None
        assert "resumed" in third.stdout.readline() or third.poll() is None
    finally:
        third.kill()
        third.wait()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_ends_a_stage_with_its_code_and_a_state(
    project: Path,  # noqa: F811
    number: signal.Signals,
    code: int,
) -> None:
    """Guards: a scheduler's stop read as a fault, or one that costs an interval; a result half written.
    Beside the resume state nothing may be left: the state is what a stop is for."""
    lengthen_run(100_000)
    run_chain("shard")
    process = start()
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == code
    stopped = re.search(r"pretrain: stopped after step (\d+); the same command resumes", output)
    assert stopped is not None, output
    assert not Path("models/pretrain").exists()
    assert not Path("models/.pretrain.tmp").exists()
    again = start()
    try:
        assert again.stdout is not None
        assert f"pretrain: resumed at step {stopped[1]} of" in again.stdout.readline()
    finally:
        again.kill()
        again.wait()


PARENT = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_parent_leaves_no_orphan(project: Path) -> None:  # noqa: F811
    """Guards: `kill -9` of dvc that leaves its stage training, with a second one beside it later."""
    lengthen_run(100_000)
    run_chain("shard")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAWGPT_TRACKING": "off"}
    command = [sys.executable, "-c", PARENT, sys.executable, "-m", "stages.pretrain", *CHAIN["pretrain"]]
    parent = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    deadline = time.monotonic() + 60
    while not list(Path("models/.resume/pretrain").rglob("step-*")):
        assert time.monotonic() < deadline, "the stage never started training"
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the stage outlived its parent"
        time.sleep(0.1)
