"""A stage that its budget stops is finished, says so, and goes on when the budget grows."""

import json
from pathlib import Path

import yaml

from gpt.checkpoint.manifest import check_manifest
from tests.stages.conftest import CHAIN, run_chain, run_stage

LOGS = ["--files", "data/fetch/files", "--out", "data/logs"]
FINETUNE = ["--base", "models/pretrain/checkpoint", "--logs", "data/logs/files", "--out", "models/finetune"]
CHECKPOINT = Path("models/pretrain/checkpoint")


def set_minutes(minutes: float, stage: str = "pretrain") -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params[stage]["train"] |= {"max_minutes": minutes, "checkpoint_every": 4}
    Path("params.yaml").write_text(yaml.safe_dump(params))


def metrics(stage: str = "pretrain") -> dict:
    return json.loads(Path(f"models/{stage}/metrics.json").read_text())


def test_a_larger_budget_goes_on_where_the_smaller_stopped(project: Path) -> None:
    """Guards: a state thrown away, or filed under another key, because a dial that shapes no weight was
    changed; a short model that looks like a whole one."""
    set_minutes(0.0)
    run_chain("pretrain")
    expected = check_manifest(CHECKPOINT)
    assert metrics()["stopped_by"] == "steps"
    log = [json.loads(line) for line in Path("models/pretrain/log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 6
    assert log[-1]["val_loss"] > 0

    set_minutes(1.0e-6)
    assert run_stage("pretrain", *CHAIN["pretrain"]) == 0
    assert (metrics()["stopped_by"], metrics()["train_steps"]) == ("budget", 1)
    assert [f.name for f in Path("models/.resume/pretrain").rglob("step-*")] == ["step-1"]

    set_minutes(0.0)
    assert run_stage("pretrain", *CHAIN["pretrain"]) == 0
    assert metrics()["stopped_by"] == "steps"
    assert check_manifest(CHECKPOINT) == expected
    steps = [json.loads(line)["step"] for line in Path("models/pretrain/log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 4, 6], "it began anew"
    assert not Path("models/.resume/pretrain").exists()


def test_a_fine_tuning_cut_short_keeps_its_state(project: Path) -> None:
    """Guards: a stage that does not say why it stopped, whose state the runner then throws away."""
    set_minutes(1.0e-6, "finetune")
    run_chain("pretrain")
    assert run_stage("logs", *LOGS) == 0
    assert run_stage("finetune", *FINETUNE) == 0
    assert metrics("finetune")["stopped_by"] == "budget"
    assert [f.name for f in Path("models/.resume/finetune").rglob("step-*")] == ["step-1"]
