"""The logs stage end to end."""

import json
from pathlib import Path

import pytest
import yaml

from gpt.config import to_dict
from stages.logs import logs
from tests.corpus.records import own_config
from tests.stages.machine import MACHINE


def test_logs_end_to_end_twice_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scrubbed, labelled, split, counted, and the same bytes again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fetched" / "extra").mkdir(parents=True)
    dials = {
        "n_chats": 200,
        "n_payment_logs": 100,
        "n_intents": 40,
        "planted_fraction": 0.4,
        "seed": 1,
        "val_fraction": 0.1,
        "use_real_sets": True,
        "max_real": 10,
        "n_replay": 0,
        "own": to_dict(own_config()),
    }
    params = {"machine": MACHINE, "logs": dials}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    command = ["--files", "fetched", "--out", "data/logs"]
    assert logs.main(command) == 0
    files = tmp_path / "data" / "logs" / "files"
    first = {path.name: path.read_bytes() for path in files.iterdir()}
    assert set(first) == {
        "train.jsonl",
        "val.jsonl",
        "replay.jsonl",
        "intents.jsonl",
        "intent_labels.json",
        "canaries.jsonl",
        "summary.json",
    }
    records = [json.loads(line) for line in first["train.jsonl"].decode().splitlines()]
    assert all(record["synthetic"] for record in records)
    assert {record["kind"] for record in records} == {"chat", "payment_log"}
    metrics = json.loads((tmp_path / "data" / "logs" / "metrics.json").read_text())
    assert metrics["n_train"] == len(records)
    assert metrics["n_real"] == 0, "no set was fetched: none may be counted"
    assert metrics["planted"] > 50
    assert metrics["recall"] >= 0.99
    assert logs.main(command) == 0
    assert first == {path.name: path.read_bytes() for path in files.iterdir()}
