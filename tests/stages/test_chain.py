"""fetch to finetune, every stage for real on a tiny corpus."""

import json
from pathlib import Path

import pytest
import yaml

from gpt.checkpoint.adapter import open_adapter
from gpt.checkpoint.manifest import check_manifest
from gpt.checkpoint.save_load import open_checkpoint
from tests.stages.conftest import CHAIN, run_chain, run_stage


def metrics(folder: str) -> dict:
    return json.loads(Path(folder, "metrics.json").read_text())


def test_the_chain_runs_and_keeps_its_contracts(project: Path) -> None:
    """Guards: an edge whose two sides disagree about a file; growth that starts somewhere else."""
    run_chain("pretrain")
    assert run_stage("ladder", "--files", "data/fetch/files", "--out", "models/ladder") == 0
    assert run_stage("logs", "--files", "data/fetch/files", "--out", "data/logs") == 0
    parent = ["--parent", "models/pretrain/checkpoint", *CHAIN["pretrain"][:4]]
    for variant in ("dense", "moe"):
        assert run_stage("scale", "--variant", variant, *parent, "--out", f"models/scale-{variant}") == 0
        jump = metrics(f"models/scale-{variant}")["growth_jump"]
        assert abs(jump) < 1e-3
    base = ["--base", "models/pretrain/checkpoint", "--logs", "data/logs/files"]
    assert run_stage("finetune", *base, "--out", "models/finetune") == 0

    pretrained = open_checkpoint(Path("models/pretrain/checkpoint"))
    assert metrics("models/pretrain")["val_loss"] < 5.7  # ln 300
    assert open_checkpoint(Path("models/scale-moe/checkpoint")).info["parent_sha256"] == pretrained.sha256
    assert open_checkpoint(Path("models/scale-moe/checkpoint")).architecture.n_experts == 8
    assert open_adapter(Path("models/finetune/adapter")).base_sha256 == pretrained.sha256
    rungs = metrics("models/ladder")
    assert rungs["bigram_full"] == rungs["bigram"]
    assert "bigram_one_batch" in rungs
    assert not list(Path("models/.resume").rglob("step-*")), "resume state outlived its success"
    assert not list(Path(".").rglob(".*.tmp")), "something half-written was left"


def test_the_same_command_gives_the_same_weights(project: Path) -> None:
    """Guards: hidden randomness, which would make every other exactness claim empty."""
    run_chain("pretrain")
    first = check_manifest(Path("models/pretrain/checkpoint"))
    assert run_stage("pretrain", *CHAIN["pretrain"]) == 0
    assert check_manifest(Path("models/pretrain/checkpoint")) == first


def test_a_failed_stage_leaves_the_old_result(project: Path) -> None:
    """Guards: a failed run that deletes or mixes with the result of the last good one."""
    run_chain("pretrain")
    first = check_manifest(Path("models/pretrain/checkpoint"))
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["pretrain"]["train"]["optim"]["lr"] = 1.0e30
    params["pretrain"]["train"]["optim"]["name"] = "adamw"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert run_stage("pretrain", *CHAIN["pretrain"]) == 1
    assert check_manifest(Path("models/pretrain/checkpoint")) == first
    assert not list(Path("models").glob(".pretrain.tmp"))


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("pretrain.train", {"stepz": 3}, "pretrain.train.stepz: unknown key; did you mean 'steps'?"),
        ("pretrain.train.optim", {"lr": "3e-4"}, "write 3.0e-4 without quotes"),
        ("pretrain.model", {"vocab_size": 100}, "pretrain.model.vocab_size: got 100, the tokenizer has 300"),
        ("pretrain.train", {"seq_len": 999}, "seq_len: 999 exceeds model.max_seq_len"),
        ("pretrain.train", {"seq_len": 256, "micro_batch_size": 0}, "micro_batch_size: at least 1"),
        ("machine", {"device": "tpu"}, "machine.device: got 'tpu'; choose cpu, cuda or mps"),
        ("machine", {"device": "cuda"}, "machine.device: cuda is asked for, but torch sees no GPU"),
    ],
)
def test_bad_dials_end_in_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], section: str, change: dict, message: str
) -> None:
    """Guards: a traceback, or a run that starts with a dial it misread."""
    run_chain("shard")
    params = yaml.safe_load(Path("params.yaml").read_text())
    node = params
    for key in section.split("."):
        node = node[key]
    node.update(change)
    Path("params.yaml").write_text(yaml.safe_dump(params))
    capsys.readouterr()
    assert run_stage("pretrain", *CHAIN["pretrain"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("models/pretrain").exists()


def test_missing_key_section_and_input(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: a KeyError where a person removed a line, a stack where a stage has not run yet."""
    assert run_stage("pretrain", *CHAIN["pretrain"]) == 1
    assert "data/shard/shards: no such path; run `dvc repro" in capsys.readouterr().err
    params = yaml.safe_load(Path("params.yaml").read_text())
    del params["fetch"]["seed"]
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert run_stage("fetch", *CHAIN["fetch"]) == 1
    assert "fetch.seed: key is missing" in capsys.readouterr().err
    del params["fetch"]
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert run_stage("fetch", *CHAIN["fetch"]) == 1
    assert "section 'fetch' is missing" in capsys.readouterr().err


def test_a_damaged_shard_stops_before_step_one(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: training on flipped tokens."""
    run_chain("shard")
    shard = Path("data/shard/shards/train-00000.bin")
    raw = bytearray(shard.read_bytes())
    raw[200] ^= 1
    shard.write_bytes(raw)
    assert run_stage("pretrain", *CHAIN["pretrain"]) == 1
    assert "train-00000.bin: damaged" in capsys.readouterr().err


def test_full_disk_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards: a traceback at the hundredth step: no room for the checkpoints is said before the first."""
    run_chain("shard")
    import shutil

    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert run_stage("pretrain", *CHAIN["pretrain"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "1,000 are free; free some space" in error
    assert not Path("models/pretrain").exists()
