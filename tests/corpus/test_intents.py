"""Held-out queries: a closed list, no query of the training side, one label."""

import json
from pathlib import Path

from gpt.corpus.instructions import intent_queries
from gpt.corpus.intents import MOST_HELD_OUT, QUESTIONS, Query, held_out
from tests.corpus.records import pack


def test_the_lists_are_closed_and_the_rows_are_held_out(tmp_path: Path) -> None:
    """Guards: a label that is missing from its list because no validation query has it; a query that the
    training side holds too; an utterance with two intents scored as if it had one."""
    rows = [
        {"split": "train", "text": "change my pin", "intent": "pin_change"},
        {"split": "train", "text": "freeze my account", "intent": "freeze_account"},
        {"split": "test", "text": "pin ko badlo", "intent": "pin_change"},
        {"split": "val", "text": "Change my PIN", "intent": "pin_change"},
    ]
    pack(tmp_path, "clinc150_banking", ".jsonl", "\n".join(map(json.dumps, rows)))
    nlupp = [{"text": f"when, and how much? {i}", "intents": ["when", "how_much"]} for i in range(30)]
    nlupp += [{"text": f"hello {i}", "intents": ["greet"]} for i in range(30)] + [{"text": "at nine"}]
    pack(tmp_path, "nlupp_banking", ".jsonl", "\n".join(map(json.dumps, nlupp)))
    queries = list(intent_queries(tmp_path, val_fraction=0.5, seed=3))
    found, labels = held_out(queries)
    assert labels == {
        "clinc150_banking": ["freeze account", "pin change"],
        "nlupp_banking": ["greet", "how much", "when"],
    }
    (clinc,) = [row for row in found if row["set"] == "clinc150_banking"]
    assert clinc["text"] == "pin ko badlo"
    assert clinc["label"] == "pin change"
    assert clinc["prompt"] in {question + "pin ko badlo" for question in QUESTIONS}
    greetings = [row for row in found if row["set"] == "nlupp_banking"]
    assert {row["label"] for row in greetings} == {"greet"}
    n_val = sum(q.side == "val" and q.labels == ("greet",) for q in queries)
    assert len(greetings) == n_val
    assert 5 < n_val < 25
    taught = {query.text.lower() for query in queries if query.side == "train"}
    assert taught.isdisjoint(row["text"].lower() for row in found)


def test_a_query_is_asked_as_it_is_taught() -> None:
    """Guards: a held-out prompt in another wording than the training chats."""
    query = Query(key="a-1", source="a", text="pin badlo", labels=("pin", "change"), side="val")
    user, answer = query.draft.record["messages"]
    assert user["content"] == query.prompt
    assert answer["content"] == "pin, change"
    many = [
        Query(key=str(i), source="a", text=f"q {i}", labels=("x",), side="val")
        for i in range(MOST_HELD_OUT + 9)
    ]
    rows, _ = held_out(many)
    assert len(rows) == MOST_HELD_OUT
    assert rows == held_out(reversed(many))[0], "which ones are held out hangs on their order"
