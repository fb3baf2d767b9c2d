"""The log set as a whole: scrubbed, each text once, on its side, and canaries in no training file."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gpt.corpus.compose_logs import LogSet, compose_logs
from gpt.corpus.config import LogsConfig
from gpt.corpus.log_record import canonical, record_texts
from tests.corpus.records import own_config, pack


def config(**changes: Any) -> LogsConfig:
    dials: dict[str, Any] = {
        "n_chats": 300,
        "n_payment_logs": 300,
        "n_intents": 0,
        "planted_fraction": 0.4,
        "seed": 3,
        "val_fraction": 0.2,
        "use_real_sets": True,
        "max_real": 10,
        "n_replay": 0,
        "own": own_config(),
    }
    return LogsConfig(**{**dials, **changes})


def trained_text(made: LogSet) -> str:
    """Everything that a training reads."""
    return json.dumps([made.train, made.val, made.replay], ensure_ascii=False)


def test_no_text_stands_on_both_sides(tmp_path: Path) -> None:
    """Equal scrubbed records would make the held-out loss a memory test."""
    top = json.dumps({"en_query": "set an alarm", "cs_query": "ek alarm set karo"})
    pack(tmp_path / "extra", "hinglish_top_train", ".jsonl", "\n".join([top] * 8))  # in 4 ways, twice
    made = compose_logs(config(), tmp_path)
    assert set(map(canonical, made.train)).isdisjoint(map(canonical, made.val))
    assert len({r["id"] for r in made.train + made.val}) == len(made.train) + len(made.val)
    metrics = made.metrics()
    assert metrics["n_real"] == 4
    assert metrics["n_repeated"] >= 4
    assert metrics["n_train"] + metrics["n_val"] + metrics["n_repeated"] == 608
    assert metrics["planted"] > 300
    assert metrics["recall"] >= 0.99
    assert metrics["false_positive_rate"] <= 0.03
    assert made.counts.planted_by_kind.total() == metrics["planted"]
    assert made.counts.leaked_by_kind.total() == metrics["leaked"]


def test_records_say_their_language_and_hold_no_evaluation_item(tmp_path: Path) -> None:
    """A fine-tuning record that is an evaluation item makes the score a memory test."""
    item = "a person is mixing water and flour in a bowl on the kitchen table and then she bakes bread"
    ctx, ending = item.rsplit(" and ", 1)
    row = {"ctx": ctx, "endings": ["x", "and " + ending], "label": 1}
    pack(tmp_path / "extra", "hellaswag_val", ".jsonl", json.dumps(row))
    leak = {"en_query": item.upper().replace(" ", "  "), "cs_query": "ek alarm set karo"}
    fine = {"en_query": "set an alarm", "cs_query": "ek alarm set karo"}
    pack(tmp_path / "extra", "hinglish_top_train", ".jsonl", "\n".join(map(json.dumps, [leak, fine])))
    made = compose_logs(config(n_chats=80, n_payment_logs=20, planted_fraction=0.0), tmp_path)
    records = made.train + made.val
    assert made.counts.n_contaminated == 1
    assert [r["id"] for r in records if r["source"] == "hinglish_top_train"] == ["hinglish_top_train-000001"]
    assert made.counts.languages == Counter(r["language"] for r in records)
    assert made.counts.languages["hinglish"] > 40
    assert 0 < made.counts.code_mixing <= 50


def test_no_canary_is_in_what_a_training_reads(tmp_path: Path) -> None:
    """Guards: a planted value that the scrubber was not asked about, or canaries.jsonl's rows in train.jsonl.
    The values are searched as they stand; in the drafts they were, and the rows' prefixes show it."""
    made = compose_logs(config(n_intents=50), tmp_path)
    assert len(made.canaries) == 1000
    assert sum(row["in_logs"] for row in made.canaries) > 100
    text = trained_text(made) + json.dumps(made.intents, ensure_ascii=False)
    assert not [row for row in made.canaries if row["value"] in text]


def test_replay_and_intents_do_without_any_fetched_set(tmp_path: Path) -> None:
    """Guards: a run with packages alone that has nothing to score intents on or to repeat."""
    lines = "\n".join(f"the king said line {i} of the play to his lords" for i in range(600))
    row = {"id": "a", "text": lines + "\ncall 9876543210 now\n", "split": "train"}
    (tmp_path / "documents.jsonl").write_text(json.dumps(row) + "\n")
    made = compose_logs(config(n_intents=100, n_replay=20), tmp_path)
    assert len(made.replay) == 20
    assert {record["kind"] for record in made.replay} == {"text"}
    assert "9876543210" not in trained_text(made)
    (labels,) = made.intent_labels.values()
    assert 10 < len(made.intents) < 35
    assert {row["label"] for row in made.intents} <= set(labels)
    asked = [record for record in made.train if record["id"].startswith("intent-")]
    assert len(asked) + len(made.intents) <= 100
    taught = {record["messages"][0]["content"] for record in asked}
    assert taught.isdisjoint(row["prompt"] for row in made.intents)
    assert all(record["messages"][1]["content"] in labels for record in asked)


def test_own_logs_are_scrubbed_labelled_and_split(tmp_path: Path) -> None:
    """Guards: a raw value or id of a user's own record in any output; own records all on one side; ids that
    move when a line is added. The same chat twice, with another phone number, is one chat after scrubbing."""
    own = tmp_path / "own"
    own.mkdir()
    rows = [
        {"id": "9812345670", "prompt": f"refund {i} kab? call 98123456{i:02d}", "response": "kal"}
        for i in range(40)
    ]
    rows.append({"prompt": "refund 0 kab? call 9999999999", "response": "kal"})
    (own / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = compose_logs(config(n_chats=20, n_payment_logs=0, own=own_config(str(own))), tmp_path)
    sides = [[r for r in side if r["source"] == "own"] for side in (made.train, made.val)]
    assert sum(map(len, sides)) == 40
    assert all(len(side) > 1 for side in sides)
    assert not any(r["synthetic"] for side in sides for r in side)
    text = trained_text(made) + json.dumps(made.summary()) + json.dumps(made.metrics())
    assert "98123456" not in text
    assert made.metrics()["own_lines"] == 41
    (own / "a.log").write_text("UPI_PAY amt=5 status=OK\n")
    more = compose_logs(config(n_chats=20, n_payment_logs=0, own=own_config(str(own))), tmp_path)
    assert {r["id"] for side in sides for r in side} < {r["id"] for r in more.train + more.val}


def test_a_side_without_a_record_is_refused(tmp_path: Path) -> None:
    """Guards: an empty val.jsonl, found by finetune."""
    with pytest.raises(ValueError, match=r"logs\.val_fraction: no record is on the val side"):
        compose_logs(config(n_chats=3, n_payment_logs=0, val_fraction=0.001), tmp_path)


def test_texts_of_a_record() -> None:
    """Guards: a payment log whose text is not scrubbed because only messages are."""
    assert record_texts({"text": "a"}) == ["a"]
