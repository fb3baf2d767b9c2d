"""A stage on two ranks, as `dvc repro` starts it: one result, one message, kills that cost nothing."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from gpt.checkpoint.manifest import check_manifest
from gpt.checkpoint.save_load import open_checkpoint
from gpt.parallel.process_group import EXIT_PEER_LOST
from tests.stages.conftest import CHAIN, ROOT, project, run_chain  # noqa: F401 (a fixture)
from tests.tolerances import TOLERANCE

SOON_S = 60
"""From a rank's death to the end of all."""


def set_dials(engine: str, ranks: int, steps: int = 8, timeout_s: float = 20.0) -> None:
    """AdamW, a state every second step, an engine."""
    path = Path("params.yaml")
    params = yaml.safe_load(path.read_text())
    params["machine"]["parallel"] = {"engine": engine, "ranks": ranks, "timeout_s": timeout_s}
    params["pretrain"]["train"] |= {"steps": steps, "log_every": 1, "checkpoint_every": 2, "sample_every": 0}
    params["pretrain"]["train"]["optim"] |= {"name": "adamw", "lr": 1e-3}
    path.write_text(yaml.safe_dump(params))


def start(*prefix: str, fault: str | None = None) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAWGPT_TRACKING": "off", "OMP_NUM_THREADS": "1"}
    environment |= {"RAWGPT_FAULT": fault} if fault else {}
    command = [sys.executable, *prefix, "-m", "stages.pretrain", *CHAIN["pretrain"]]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], code: int) -> str:
    """Wait; return all that was said. Every process of the run must be gone with it."""
    output, _ = process.communicate(timeout=SOON_S + 60)
    assert process.returncode == code, output
    return output


def losses() -> list[float]:
    with Path("models/pretrain/curve.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture
def expected(project: Path) -> list[float]:  # noqa: F811
    """The losses of one process; its result is put away."""
    set_dials("zero3", 1)
    run_chain("pretrain")
    found = losses()
    Path("models/pretrain").rename("models/alone")
    assert len(found) == 8
    return found


def assert_is_the_run_of_one_process(expected: list[float]) -> None:
    assert losses() == pytest.approx(expected, abs=TOLERANCE["zero3_loss_vs_one_process"])
    checkpoint, alone = (open_checkpoint(Path(f"models/{n}/checkpoint")) for n in ("pretrain", "alone"))
    assert set(checkpoint.tensors) == set(alone.tensors)
    for name, tensor in alone.tensors.items():
        gap = float((checkpoint.tensors[name] - tensor).abs().max())
        assert gap <= TOLERANCE["zero3_weights_vs_one_process"], name
    assert json.loads(Path("models/pretrain/metrics.json").read_text())["stopped_by"] == "steps"
    assert not Path("models/pretrain/checkpoint/index.json").exists()
    check_manifest(Path("models/pretrain/checkpoint"))


def test_two_ranks_make_the_checkpoint_of_one(expected: list[float]) -> None:
    """Guards: a rank that writes over another's results, a result that only ranks can read, a killed rank
    that leaves the others waiting, and a state of two ranks that one cannot go on from. Killed in a step."""
    set_dials("zero3", 2)
    began = time.monotonic()
    output = finish(start(fault="train.micro_batch:kill@6#1"), EXIT_PEER_LOST)
    assert time.monotonic() - began < SOON_S
    said = [line for line in output.splitlines() if "rank" in line]
    assert said == [
        "pretrain: rank 1 of 2 was ended by SIGKILL; all ranks have ended, and the same command resumes"
    ]
    assert "Traceback" not in output
    output = finish(start(), 0)
    assert re.search(r"pretrain: resumed at step [24] of 8\n", output)
    assert_is_the_run_of_one_process(expected)
    assert not Path("models/.resume/pretrain").exists()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["zero3", "fsdp2"])
@pytest.mark.parametrize(
    ("fault", "killed"),
    [
        ("checkpoint.after_write:kill@2#1", 1),  # its file of the second save is written, not yet on the disk
        ("checkpoint.after_manifest:kill@2#0", 0),  # the folder is whole, under its temporary name
        ("checkpoint.after_rename:kill@2#0", 0),
        ("train.micro_batch:kill@6#0", 0),
    ],
)
def test_killed_in_a_save(expected: list[float], engine: str, fault: str, killed: int) -> None:
    """Guards: half a save taken for a whole one, ranks that wait for a file nobody writes any more."""
    set_dials(engine, 2)
    began = time.monotonic()
    output = finish(start(fault=fault), EXIT_PEER_LOST)
    assert time.monotonic() - began < SOON_S
    said = [line for line in output.splitlines() if "rank" in line]
    assert len(said) == 1, output
    assert said[0].startswith(f"pretrain: rank {killed} of 2 was ended by SIGKILL")
    assert re.search(r"pretrain: resumed at step [24] of 8\n", finish(start(), 0))
    assert_is_the_run_of_one_process(expected)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["zero3", "fsdp2"])
def test_a_signal_to_the_launcher_saves_and_stops(expected: list[float], engine: str) -> None:
    """Guards: ranks that stop at different steps, a launcher that ends before its ranks have saved."""
    set_dials(engine, 2, steps=100_000)
    process = start()
    assert process.stdout is not None
    while "loss" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGTERM)
    output = finish(process, 128 + signal.SIGTERM)
    stopped = re.search(r"pretrain: stopped after step (\d+); the same command resumes", output)
    assert stopped is not None, output
    assert not Path("models/pretrain").exists()
    again = start()
    assert again.stdout is not None
    lines = iter(again.stdout.readline, "")
    assert any(f"pretrain: resumed at step {stopped[1]} of" in line for line in lines)
    assert any("loss" in line for line in lines)
    again.send_signal(signal.SIGTERM)
    finish(again, 128 + signal.SIGTERM)


@pytest.mark.slow
def test_torchrun_by_hand_is_the_same_run(expected: list[float]) -> None:
    """Guards: a command of the README that has rotted; ranks that were not asked for."""
    set_dials("fsdp2", 2)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    finish(start(*torchrun), 0)
    assert_is_the_run_of_one_process(expected)
    set_dials("fsdp2", 3)
    output = start(*torchrun).communicate(timeout=120)[0]
    assert "machine.parallel.ranks: got 3, 2 ranks were started; write 2" in output


def test_an_error_of_the_user_is_said_once(project: Path) -> None:  # noqa: F811
    """Guards: the same sentence from every rank, or from none; a wait for the timeout."""
    set_dials("zero3", 2)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["pretrain"]["train"]["micro_batch_size"] = 3
    Path("params.yaml").write_text(yaml.safe_dump(params))
    run_chain("shard")
    output = finish(start(), 1)
    assert output.count("samples do not divide among 2 ranks; write 4") == 1
