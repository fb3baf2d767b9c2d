"""The shard stage: a killed run goes on with its parts, also with other workers; what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from gpt.dataset.shard_set import open_shards
from gpt.tokenizer.vocab_file import load_tokenizer
from tests.stages.conftest import CHAIN, ROOT, run_chain, run_stage


def set_dials(**dials: object) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["shard"] |= dials
    Path("params.yaml").write_text(yaml.safe_dump(params))


def shard_bytes() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(Path("data/shard/shards").iterdir())}


def test_metrics_and_order_do_not_depend_on_parts(project: Path) -> None:
    """Guards: counts that do not fit the shards; another stream for another size of a part."""
    run_chain("shard")
    fingerprint = load_tokenizer(Path("models/tokenize/tokenizer")).fingerprint
    whole = {s: open_shards(Path("data/shard/shards"), s, fingerprint)[:].tolist() for s in ("train", "val")}
    set_dials(part_mb=0.004)
    assert run_stage("shard", *CHAIN["shard"]) == 0
    for split, tokens in whole.items():
        stream = open_shards(Path("data/shard/shards"), split, fingerprint)
        assert len(stream.shards) > (split == "train")  # val is one document
        assert stream[:].tolist() == tokens
    metrics = json.loads(Path("data/shard/metrics.json").read_text())
    assert metrics["train_tokens"] == len(whole["train"])
    assert metrics["val_tokens"] == len(whole["val"])
    assert metrics["documents"] == 6
    assert metrics["shards"] == len(list(Path("data/shard/shards").glob("*.bin")))
    lines = Path("data/fetch/files/documents.jsonl").read_text().splitlines()
    n_bytes = sum(len(json.loads(line)["text"].encode()) for line in lines)
    assert metrics["bytes_per_token"] == round(n_bytes / sum(map(len, whole.values())), 4)
    assert not Path("models/.resume/shard").exists()


def test_a_killed_stage_keeps_its_parts(project: Path) -> None:
    """Guards: a resume folder that the next attempt does not find: another number of processes must."""
    run_chain("tokenize")
    text = Path("data/fetch/files/documents.jsonl").read_text()
    many = [json.dumps(json.loads(line) | {"id": f"{i}"}) for i in range(40) for line in text.splitlines()]
    Path("data/fetch/files/documents.jsonl").write_text("\n".join(many) + "\n")
    set_dials(part_mb=0.006, workers={"processes": 1, "engine": "local", "address": ""})
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAWGPT_TRACKING": "off"}
    command = [sys.executable, "-m", "stages.shard", *CHAIN["shard"]]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while len(list(Path("models/.resume/shard").rglob("part-*.json"))) < 4:
            assert time.monotonic() < deadline
            assert process.poll() is None, "it was over before the kill"
            time.sleep(0.002)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = list(Path("models/.resume/shard").rglob("part-*.json"))
    assert not Path("data/shard").exists()
    set_dials(workers={"processes": 2, "engine": "local", "address": ""})
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"shard: {len(done)} of " in again.stderr
    resumed = shard_bytes()
    assert run_stage("shard", *CHAIN["shard"]) == 0
    assert shard_bytes() == resumed


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"min_train_tokens": 10**9}, "shard.min_train_tokens: the train split has"),
        ({"part_mb": 0.0}, "shard.part_mb: more than 0 is needed"),
        (
            {"workers": {"processes": 0, "engine": "ray", "address": ""}},
            "shard.workers.engine: got 'ray'; choose one of local, dask",
        ),
    ],
)
def test_bad_dials_end_in_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], dials: dict, message: str
) -> None:
    """Guards: a run of hours that ends at its last check with a traceback."""
    run_chain("tokenize")
    set_dials(**dials)
    capsys.readouterr()
    assert run_stage("shard", *CHAIN["shard"]) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1]
    assert not Path("data/shard").exists()
