"""align@dpo, align@ppo and align@grpo for real on a tiny corpus, and what they refuse."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from gpt.checkpoint.save_load import open_checkpoint
from tests.stages.conftest import run_chain, run_stage

BASE = ["--logs", "data/logs/files", "--files", "data/fetch/files"]
WATCHED = {
    "dpo": {"margin", "accuracy", "chosen_reward", "rejected_reward"},
    "ppo": {"reward", "kl", "kl_coef", "entropy", "value_loss", "clip_share", "rollout_gap"},
    "grpo": {"reward", "kl", "entropy", "clip_share", "rollout_gap"},
}


def align(variant: str, base: str = "models/finetune/checkpoint") -> int:
    flags = ["--variant", variant, "--base", base, *BASE, "--out", f"models/align-{variant}"]
    return run_stage("align", *flags)


def test_the_three_variants(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: an aligned model that does not open or that is its parent unchanged, a curve without what the
    variant watches, one seed with two results, a variant whose dials are another's; a mistake that ends in a
    traceback."""
    run_chain("pretrain")
    assert run_stage("logs", "--files", "data/fetch/files", "--out", "data/logs") == 0
    base = ["--base", "models/pretrain/checkpoint", "--logs", "data/logs/files"]
    assert run_stage("finetune", *base, "--out", "models/finetune") == 0
    parent = open_checkpoint(Path("models/finetune/checkpoint"))
    for variant, watched in WATCHED.items():
        assert align(variant) == 0, variant
        out = Path(f"models/align-{variant}")
        child = open_checkpoint(out / "checkpoint")
        assert child.info["parent_sha256"] == parent.sha256
        assert child.architecture == parent.architecture
        first = (child.folder / "model.safetensors").read_bytes()
        has_changed = first != (parent.folder / "model.safetensors").read_bytes()
        metrics = json.loads((out / "metrics.json").read_text())
        assert metrics["train_steps"] == 2
        assert metrics["trainable_parameters"] > 0
        with (out / "curve.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert watched | {"step", "loss", "val_loss"} <= set(rows[0])
        # answers of a model of six steps earn nothing: equal groups, which must not move GRPO's weights
        assert has_changed == (variant != "grpo" or any(float(row["reward_std"]) for row in rows))
    assert metrics["before_reward"] == metrics["before_toy_reward"]
    ppo = json.loads(Path("models/align-ppo/metrics.json").read_text())
    assert 0 <= ppo["reward_accuracy"] <= 1
    assert Path("models/align-ppo/log-reward.jsonl").is_file()
    assert align("grpo") == 0
    assert Path("models/align-grpo/checkpoint/model.safetensors").read_bytes() == first

    params = yaml.safe_load(Path("params.yaml").read_text())
    params["align"]["grpo"]["rollout"]["answer_tokens"] = 250
    params["align"]["dpo"]["train"]["seq_len"] = 8
    params["align"]["ppo"]["train"]["document_mask"] = True
    Path("params.yaml").write_text(yaml.safe_dump(params))
    capsys.readouterr()
    for variant, message in (
        ("grpo", "align-grpo: no prompt of at most 6 tokens"),
        ("dpo", "align-dpo: no usable preference pair (0 pairs"),
        ("ppo", "align.ppo.train.document_mask: alignment does not use it; write false"),
    ):
        assert align(variant) == 1
        error = capsys.readouterr().err.strip().splitlines()
        assert message in error[-1]
        assert len(error) == 1
