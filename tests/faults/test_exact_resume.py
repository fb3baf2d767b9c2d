"""Killed anywhere, resumed: the same weights, the same optimizer, the same losses, the same samples."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt.checkpoint import faults
from tests.stages.conftest import ROOT

INTERVAL = 5
STEPS = 40
IN_A_SAVE = [
    "checkpoint.write",
    "checkpoint.after_write",
    "checkpoint.after_fsync",
    "checkpoint.after_manifest",
    "checkpoint.after_rename",
    "checkpoint.after_prune",
]
HITS_PER_SAVE = {"checkpoint.write": 100, "checkpoint.after_write": 4, "checkpoint.after_fsync": 4}


class Server:
    """The fork server; one job at a time."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment.pop("RAWGPT_FAULT", None)
        command = [sys.executable, "-m", "tests.faults.tiny_training"]
        self.process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, folder: Path, *, fault: str | None = None, n_samples: int = 23, **dials: Any) -> int:
        """Start a job; return its pid."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        job = {"folder": str(folder), "dials": dials, "n_samples": n_samples, "fault": fault}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        """Return the exit code of the job that was started."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def run(self, folder: Path, **job: Any) -> int:
        """Run a job to its end."""
        self.start(folder, **job)
        return self.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    assert made.process.stdin is not None
    made.process.stdin.close()
    made.process.wait(timeout=30)


@pytest.fixture(scope="module")
def expected(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert server.run(folder) == 0, folder.with_suffix(".log").read_text()
    return result(folder)


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def consumed(folder: Path) -> list[tuple[int, int, int, int]]:
    """Return (pid, position, epoch, sample) in the order of consumption; a cut last line is left out."""
    lines = (folder / "consumed.txt").read_text().split("\n")[:-1]
    return [tuple(map(int, line.split())) for line in lines]  # type: ignore[misc]


def steps_of(folder: Path, samples_per_step: int = 2) -> list[tuple[int, int]]:
    """Return (first step begun, last step begun) of every attempt."""
    attempts: dict[int, list[int]] = {}
    for pid, position, _, _ in consumed(folder):
        attempts.setdefault(pid, []).append(position // samples_per_step)
    return [(steps[0], steps[-1]) for steps in attempts.values()]


def moments(n: int) -> list[tuple[str, str]]:
    """n seeded moments, every second one inside a save: (kind, fault)."""
    rng = random.Random(57)
    made = []
    for i in range(n):
        if i % 2 == 0:
            point = IN_A_SAVE[i // 2 % len(IN_A_SAVE)]
            hits = HITS_PER_SAVE.get(point, 1)
            made.append(("save", f"{point}:kill@{rng.randint(hits + 1, 5 * hits)}"))
        else:
            made.append(("step", f"train.micro_batch:kill@{rng.randint(2, STEPS)}"))
    return made


def kill_and_resume(server: Server, folder: Path, kind: str, fault: str) -> None:
    """Kill one run at its fault and let it end; check what was lost."""
    assert server.run(folder, fault=fault) == -signal.SIGKILL, fault
    left = sorted(f.name for f in (folder / "resume").glob(".step-*.tmp"))
    if fault.split(":")[0] in IN_A_SAVE[:4]:
        assert left, f"{fault} did not fall inside a save"
    saved = [int(f.name.removeprefix("step-")) for f in (folder / "resume").glob("step-*")]
    assert server.run(folder) == 0
    (_, killed_at), (resumed_at, _) = steps_of(folder)
    assert resumed_at == max(saved, default=0), "a finished save was lost"
    # a save runs beside the training: its own time comes on top of the interval, never a second interval
    assert killed_at - resumed_at <= (2 * INTERVAL if kind == "save" or left else INTERVAL)
    assert not list((folder / "resume").glob(".step-*"))


def check_moments(server: Server, expected: dict[str, Any], folder: Path, n: int) -> None:
    """Assert n times that the resumed run equals the uninterrupted one."""
    for i, (kind, fault) in enumerate(moments(n)):
        kill_and_resume(server, folder / str(i), kind, fault)
        assert result(folder / str(i)) == expected, fault


def test_killed_at_five_moments(server: Server, expected: dict[str, Any], tmp_path: Path) -> None:
    """Guards: anything that the next step depends on and that is not saved; a save that is taken for
    whole before it is. Three of five inside a save, at a write, after a write and after an fsync."""
    assert len(expected["losses"]) == STEPS
    assert [kind for kind, _ in moments(5)].count("save") == 3
    check_moments(server, expected, tmp_path, 5)


@pytest.mark.slow
def test_killed_at_twenty_moments(server: Server, expected: dict[str, Any], tmp_path: Path) -> None:
    """Guards: as above, at every point of a save and at ten steps."""
    assert {fault.split(":")[0] for kind, fault in moments(20) if kind == "save"} == set(IN_A_SAVE)
    check_moments(server, expected, tmp_path, 20)


@pytest.mark.parametrize("grad_accumulation", [1, 2])
def test_ten_resumes_over_epoch_boundaries(server: Server, tmp_path: Path, grad_accumulation: int) -> None:
    """Guards: an epoch skipped or begun twice by a resume, a second resume that drifts.

    20 samples an epoch, 2 * accumulation a step: an epoch ends after step 10 / accumulation. The first
    kill is before the first checkpoint, the second behind the rename of the state of step 10, the others
    in the middle of a step, three steps further each time.
    """
    per_step = 2 * grad_accumulation
    dials = {"grad_accumulation": grad_accumulation}
    assert server.run(tmp_path / "whole", n_samples=20, **dials) == 0
    folder = tmp_path / "killed"
    done = 0
    for i in range(10):
        until = 3 if i == 0 else 13 + 3 * (i - 2)
        hit = (until - done) * grad_accumulation + grad_accumulation  # the last micro batch of that step
        fault = "checkpoint.after_rename:kill@2" if i == 1 else f"train.micro_batch:kill@{hit}"
        assert server.run(folder, n_samples=20, fault=fault, **dials) == -signal.SIGKILL
        saved = [int(f.name.removeprefix("step-")) for f in (folder / "resume").glob("step-*")]
        done = max(saved, default=0)
        if i == 1:
            assert done * per_step % 20 == 0, "not on the boundary of an epoch"
    assert server.run(folder, n_samples=20, **dials) == 0
    assert result(folder) == result(tmp_path / "whole")
    attempts = steps_of(folder, per_step)
    assert len(attempts) == 11
    assert attempts[0][0] == attempts[1][0] == 0, "no kill before the first checkpoint"
    # what counts is the last time that a position was consumed: once each, in order, all of the epochs
    final = {position: (epoch, sample) for _, position, epoch, sample in consumed(folder)}
    assert sorted(final) == list(range(STEPS * per_step))
    whole = [entry[1:] for entry in consumed(tmp_path / "whole")]
    assert [(p, *final[p]) for p in sorted(final)] == whole
    n_epochs = STEPS * per_step // 20
    assert n_epochs >= 3
    for epoch in range(n_epochs):
        assert sorted(s for e, s in final.values() if e == epoch) == list(range(20))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_step_and_saves(
    server: Server, expected: dict[str, Any], tmp_path: Path, number: int, code: int
) -> None:
    """Guards: an hour lost to a scheduler's stop, a stop read as a fault. Nothing is repeated: the next
    attempt begins with the step behind the last one of the first."""
    folder = tmp_path / "run"
    pid = server.start(folder)
    wait_for_sample(folder, 9)
    os.kill(pid, number)
    assert server.wait() == code
    assert server.run(folder) == 0
    (_, last), (first, _) = steps_of(folder)
    assert first == last + 1
    assert result(folder) == expected


def test_a_second_signal_ends_at_once(server: Server, expected: dict[str, Any], tmp_path: Path) -> None:
    """Guards: a process that cannot be stopped. A step of 20,000 samples takes a second: what ends the
    process before the checkpoint of that step is the second signal."""
    folder = tmp_path / "run"
    pid = server.start(folder, micro_batch_size=20_000, checkpoint_every=0)
    wait_for_sample(folder, 0)
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.05)
    os.kill(pid, signal.SIGTERM)
    assert server.wait() == 143
    assert not list((folder / "resume").glob("step-*")), "it saved although it was told to end at once"


def wait_for_sample(folder: Path, position: int) -> None:
    """Wait until a run has consumed a position."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (folder / "consumed.txt").exists() and any(p >= position for _, p, _, _ in consumed(folder)):
            return
        time.sleep(0.002)
    raise AssertionError(folder.with_suffix(".log").read_text())


def test_a_failed_save_is_loud_and_the_run_goes_on(
    server: Server, expected: dict[str, Any], tmp_path: Path
) -> None:
    """Guards: a long run ended by a moment's full disk; one that hides it. The fourth write of the run
    fails once: the checkpoint of step 5; that of step 10 stands."""
    folder = tmp_path / "run"
    assert server.run(folder, fault="checkpoint.write:enospc@4") == 0
    assert result(folder) == expected
    log = folder.with_suffix(".log").read_text()
    assert "NOT SAVED" in log
    assert "the checkpoint of step 5 failed (No space left on device): it needs" in log
    rows = (folder / "resume/log.jsonl").read_text()
    assert '"failed_saves": 1' in rows


def test_a_failed_last_save_fails_the_run(server: Server, tmp_path: Path) -> None:
    """Guards: a stop that says `resumes` and has saved nothing."""
    folder = tmp_path / "run"
    pid = server.start(folder, fault="checkpoint.write:eio@1+")
    wait_for_sample(folder, 9)
    os.kill(pid, signal.SIGTERM)
    assert server.wait() == 2
    assert "Input/output error" in folder.with_suffix(".log").read_text()


def test_without_the_variable_no_fault_is_armed() -> None:
    """Guards: a fault left armed in production."""
    assert "RAWGPT_FAULT" not in os.environ
    faults.hit("checkpoint.write")
