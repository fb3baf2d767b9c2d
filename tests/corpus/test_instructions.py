"""The public sets as chats: by hand, labelled, on the side that their makers gave them."""

import json
from pathlib import Path

from gpt.corpus.instructions import instruction_drafts, intent_queries, real_drafts
from gpt.corpus.log_record import Draft
from tests.corpus.records import check_record, pack

SPLIT = {"val_fraction": 0.3, "seed": 1}
HINDI = [
    {"user": "<SILENCE>", "assistant": "Hello , kaise help karu ?"},
    {"user": "mujhe restaurant chahiye", "assistant": "api_call R_cuisine west moderate"},
    {"user": "<SILENCE>", "assistant": "prezzo acha hai"},
    {"user": "<SILENCE>", "assistant": "aur bhi hai ."},
    {"user": "goodbye", "assistant": "Welcome , alvida"},
    {"user": "hm", "assistant": "api_call x"},
]
ENGLISH = [
    {"user": "<SILENCE>", "assistant": "Hello , how may I help ?"},
    {"user": "i want a restaurant", "assistant": "api_call R_cuisine west moderate"},
    {"user": "<SILENCE>", "assistant": "prezzo is nice"},
    {"user": "<SILENCE>", "assistant": "there are more ."},
    {"user": "goodbye", "assistant": "you are welcome"},
    {"user": "um", "assistant": "api_call x"},
]


def drafts(folder: Path, most: int = 100) -> list[Draft]:
    queries = list(intent_queries(folder, **SPLIT))
    return list(real_drafts(folder, queries, most=most, **SPLIT))


def contents(draft: Draft) -> list[str]:
    return [message["content"] for message in draft.record["messages"]]


def test_real_sets_become_chats(tmp_path: Path) -> None:
    """By hand: the greeting and database calls go, what follows a silence joins the answer."""
    pack(tmp_path, "codemixed_dstc2_hi_trn", ".jsonl", json.dumps({"turns": HINDI}))
    top = {"en_query": "set an alarm", "cs_query": "ek alarm set karo", "domain": "alarm"}
    pack(tmp_path, "hinglish_top_train", ".jsonl", json.dumps(top))
    pack(tmp_path, "banking77_train", ".csv", 'text,category\n"Where, is\n my card?",card_arrival\n')
    task = [{"instruction": "Correct it.", "input": "He go.", "output": "He goes."}]
    pack(tmp_path, "instructions_rasbt", ".json", json.dumps(task))
    made = {draft.record["source"]: draft for draft in drafts(tmp_path)}
    for name, draft in made.items():
        check_record(draft.record)
        assert draft.record["synthetic"] is (name == "instructions_rasbt")
    assert contents(made["codemixed_dstc2_hi_trn"]) == [
        "mujhe restaurant chahiye",
        "prezzo acha hai aur bhi hai.",
        "goodbye",
        "Welcome, alvida",
    ]
    assert contents(made["hinglish_top_train"])[1] == "ek alarm set karo"
    assert contents(made["banking77_train"])[0].endswith("Where, is my card?")
    assert contents(made["banking77_train"])[1] == "card arrival"
    assert contents(made["instructions_rasbt"]) == ["Correct it.\nHe go.", "He goes."]
    assert len(drafts(tmp_path, most=2)) <= 2
    assert not drafts(tmp_path / "nothing", most=5)


def test_parallel_dialogs_pair_what_was_said_at_the_same_turn(tmp_path: Path) -> None:
    """Guards: an answer in the wrong language, or of another turn. Database calls and silence are nobody's
    words: of six turns seven sides are said, so dialog 0 asks for pair 0 and dialog 1 for pair 1."""
    for code, turns in (("hi", HINDI), ("en", ENGLISH)):
        lines = [json.dumps({"turns": turns})] * 2
        pack(tmp_path, f"codemixed_dstc2_{code}_trn", ".jsonl", "\n".join(lines))
    made = [contents(d) for d in drafts(tmp_path) if d.record["source"] == "codemixed_dstc2_en_trn"]
    assert made[0][:2] == ["i want a restaurant", "prezzo is nice there are more."]
    assert made[1] == ["Say this in English: Hello, kaise help karu?", "Hello, how may I help?"]
    assert made[3][0].endswith(": i want a restaurant")
    assert made[3][1] == "mujhe restaurant chahiye"


def test_a_set_s_own_split_holds(tmp_path: Path) -> None:
    """Guards: a development dialog that is learned because its hash says train."""
    for part in ("train", "validation"):
        rows = [json.dumps({"en_query": f"{part} {i}", "cs_query": f"{part} karo {i}"}) for i in range(40)]
        pack(tmp_path, f"hinglish_top_{part}", ".jsonl", "\n".join(rows))
    rows = [
        {"split": s, "text": f"{s} {i}", "intent": "pin_change"} for s in ("train", "val") for i in range(9)
    ]
    pack(tmp_path, "clinc150_banking", ".jsonl", "\n".join(map(json.dumps, rows)))
    made = drafts(tmp_path, most=60)
    assert len(made) == 60
    assert sum(draft.side == "val" for draft in made) == 18  # val_fraction of `most`
    for draft in made:
        is_val = draft.record["source"] == "hinglish_top_validation" or ": val " in contents(draft)[0]
        is_val |= contents(draft)[0].startswith(("Customer", "What")) and "? val " in contents(draft)[0]
        assert draft.side == ("val" if is_val else "train"), draft.record


def test_instructions_to_repeat_are_of_the_training_side(tmp_path: Path) -> None:
    """Guards: a held-out instruction that comes back through replay."""
    tasks = [{"instruction": f"Say {i}.", "input": "", "output": str(i)} for i in range(50)]
    pack(tmp_path, "instructions_alpaca", ".json", json.dumps(tasks))
    replayed = {contents(draft)[0] for draft in instruction_drafts(tmp_path, **SPLIT)}
    held_out = {contents(draft)[0] for draft in drafts(tmp_path) if draft.side == "val"}
    assert len(replayed) + len(held_out) == 50
    assert replayed.isdisjoint(held_out)
