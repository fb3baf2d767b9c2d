"""A stage on two ranks, started as `dvc repro` starts it: one result, one message, and kills that cost nothing."""

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
