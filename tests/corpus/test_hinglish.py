"""The generator and the real sets: labelled, repeatable, varied, in the record format."""

import bz2
import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from gpt.corpus.compose_logs import compose_logs
from gpt.corpus.config import LogsConfig
from gpt.corpus.hinglish import distinct_n, generate_chats, generate_payment_logs, grammar, record_texts
from gpt.corpus.instructions import real_chats


def check_record(record: dict[str, Any]) -> None:
    """The log record format of docs/architecture.md."""
    assert isinstance(record["id"], str)
    assert isinstance(record["source"], str)
    assert isinstance(record["synthetic"], bool)
    if record["kind"] == "payment_log":
        assert set(record) == {"id", "kind", "source", "synthetic", "text"}
        assert record["text"].strip()
        return
    assert record["kind"] == "chat"
    assert set(record) == {"id", "kind", "source", "synthetic", "messages"}
    roles = [message["role"] for message in record["messages"]]
    assert roles == ["user", "assistant"] * (len(roles) // 2)
    assert len(roles) >= 2
    assert all(message["content"].strip() for message in record["messages"])


def test_generated_records_are_whole_and_labelled() -> None:
    """An unfilled {slot} or an unlabelled synthetic record would reach the model as real."""
    made = list(generate_chats(500, seed=2, planted_fraction=0.4))
    made += generate_payment_logs(500, seed=2, planted_fraction=0.4)
    for generated in made:
        check_record(generated.record)
        assert generated.record["synthetic"] is True
        text = " ".join(record_texts(generated.record))
        assert not set("{}\ue000\ue001") & set(text), text
        assert len(generated.record.get("messages", "12")) in (2, 4, 6)
    share = sum(bool(g.planted) for g in made) / len(made)
    assert 0.33 < share < 0.47  # 0.4 +- 4 standard deviations of 1,000 draws


def test_same_seed_same_records_and_more_keep_the_first() -> None:
    """A generator that shares one random stream would change every record when n changes."""
    few = list(generate_chats(50, seed=7, planted_fraction=0.4))
    assert few == list(islice(generate_chats(500, seed=7, planted_fraction=0.4), 50))
    assert few != list(generate_chats(50, seed=8, planted_fraction=0.4))


def test_chats_are_varied() -> None:
    """Distinct 1- and 2-grams by hand, and a floor: templates alone would repeat whole chats."""
    assert distinct_n(["a b a b"], 1) == 0.5
    assert distinct_n(["a b a b"], 2) == 2 / 3
    texts = [" ".join(record_texts(g.record)) for g in generate_chats(1000, seed=1, planted_fraction=0.4)]
    assert len(set(texts)) >= 995
    assert distinct_n(texts, 2) > 0.2
    assert any("\u0900" <= character <= "\u097f" for text in texts for character in text)


def test_every_piece_of_the_grammar_exists() -> None:
    """A piece named in the grammar and not defined would fail in one chat of ten thousand."""
    words = grammar()
    known = set(words["pieces"]) | set(words["facts"]) | {"amount", "ref", "last4"}
    lists = [*words["pieces"].values(), words["log_notes"]]
    lists += [part for scenario in words["scenarios"].values() for part in scenario.values()]
    for items in lists:
        for item in items:
            for name in item.split("{")[1:]:
                name = name.split("}")[0]
                assert name.isupper() or name in known, (name, item)


def pack(folder: Path, name: str, suffix: str, text: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / f"{name}{suffix}.bz2").write_bytes(bz2.compress(text.encode()))


def test_real_sets_become_chats(tmp_path: Path) -> None:
    """By hand: the greeting and database calls go, what follows a silence joins the answer."""
    turns = [
        {"user": "<SILENCE>", "assistant": "Hello , kaise help karu ?"},
        {"user": "mujhe restaurant chahiye", "assistant": "api_call R_cuisine west moderate"},
        {"user": "<SILENCE>", "assistant": "prezzo acha hai"},
        {"user": "<SILENCE>", "assistant": "aur bhi hai ."},
        {"user": "goodbye", "assistant": "Welcome , alvida"},
        {"user": "hm", "assistant": "api_call x"},
    ]
    pack(tmp_path, "codemixed_dstc2_hi_trn", ".jsonl", json.dumps({"turns": turns}))
    top = {"en_query": "set an alarm", "cs_query": "ek alarm set karo", "domain": "alarm"}
    pack(tmp_path, "hinglish_top_train", ".jsonl", json.dumps(top))
    pack(tmp_path, "banking77_train", ".csv", 'text,category\n"Where, is\n my card?",card_arrival\n')
    records = {record["source"]: record for record in real_chats(tmp_path, most=100)}
    for record in records.values():
        check_record(record)
        assert record["synthetic"] is False
    contents = {name: [m["content"] for m in r["messages"]] for name, r in records.items()}
    assert contents["codemixed_dstc2_hi_trn"] == [
        "mujhe restaurant chahiye",
        "prezzo acha hai aur bhi hai.",
        "goodbye",
        "Welcome, alvida",
    ]
    assert contents["hinglish_top_train"][1] == "ek alarm set karo"
    assert contents["banking77_train"][0].endswith("Where, is my card?")
    assert contents["banking77_train"][1] == "card arrival"
    assert len(list(real_chats(tmp_path, most=2))) <= 2
    assert not list(real_chats(tmp_path / "nothing", most=5))


def test_no_text_stands_on_both_sides(tmp_path: Path) -> None:
    """Equal scrubbed records would make the held-out loss a memory test."""
    config = LogsConfig(
        n_chats=300,
        n_payment_logs=300,
        planted_fraction=0.4,
        seed=3,
        val_fraction=0.2,
        use_real_sets=True,
        max_real=10,
    )
    top = json.dumps({"en_query": "set an alarm", "cs_query": "ek alarm set karo"})
    pack(tmp_path, "hinglish_top_train", ".jsonl", "\n".join([top] * 8))  # asked in 4 ways, twice
    made = compose_logs(config, tmp_path)
    train = {json.dumps(record_texts(record)) for record in made.train}
    assert train.isdisjoint(json.dumps(record_texts(record)) for record in made.val)
    assert len({r["id"] for r in made.train + made.val}) == len(made.train) + len(made.val)
    metrics = made.metrics()
    assert metrics["n_real"] == 4
    assert metrics["n_repeated"] >= 4
    assert metrics["n_train"] + metrics["n_val"] + metrics["n_repeated"] == 608
    assert metrics["planted"] > 300
    assert metrics["recall"] >= 0.99
    assert metrics["false_positive_rate"] <= 0.03
    assert sum(made.planted_by_kind.values()) == metrics["planted"]
    assert sum(made.leaked_by_kind.values()) == metrics["leaked"]


def test_records_say_their_language_and_hold_no_evaluation_item(tmp_path: Path) -> None:
    """A fine-tuning record that is an evaluation item makes the score a memory test."""
    item = "a person is mixing water and flour in a bowl on the kitchen table and then she bakes bread"
    ctx, ending = item.rsplit(" and ", 1)
    row = {"ctx": ctx, "endings": ["x", "and " + ending], "label": 1}
    pack(tmp_path, "hellaswag_val", ".jsonl", json.dumps(row))
    leak = {"en_query": item.upper().replace(" ", "  "), "cs_query": "ek alarm set karo"}
    fine = {"en_query": "set an alarm", "cs_query": "ek alarm set karo"}
    pack(tmp_path, "hinglish_top_train", ".jsonl", "\n".join(map(json.dumps, [leak, fine])))
    config = LogsConfig(
        n_chats=80,
        n_payment_logs=20,
        planted_fraction=0.0,
        seed=3,
        val_fraction=0.2,
        use_real_sets=True,
        max_real=10,
    )
    made = compose_logs(config, tmp_path)
    records = made.train + made.val
    assert made.n_contaminated == 1
    assert [r["id"] for r in records if r["source"] == "hinglish_top_train"] == ["hinglish_top_train-000001"]
    assert made.languages == Counter(r["language"] for r in records)
    assert made.languages["hinglish"] > 60
    assert 0 < made.code_mixing <= 50
