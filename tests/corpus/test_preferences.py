"""gpt/corpus/preferences.py: pairs out of parallel dialogs, or of the generator where those are absent."""

import bz2
import json
import os
from pathlib import Path

import pytest

from gpt.corpus.hinglish import generate_chats
from gpt.corpus.language import tag
from gpt.corpus.preferences import PARALLEL, preference_pairs, with_account
from gpt.corpus.registry import describe


def write(extra: Path, name: str, dialogs: list[list[tuple[str, str]]]) -> Path:
    """Write a set as the fetch stage leaves it."""
    folder = extra / name
    folder.mkdir(parents=True)
    turns = [{"turns": [{"user": u, "assistant": a} for u, a in dialog]} for dialog in dialogs]
    data = "".join(json.dumps(record) + "\n" for record in turns)
    path = folder / f"{name}.jsonl.bz2"
    path.write_bytes(bz2.compress(data.encode()))
    return path


def record(place: int, *messages: str) -> dict:
    roles = ("user", "assistant")
    told = [{"role": roles[i % 2], "content": text} for i, text in enumerate(messages)]
    source = "codemixed_dstc2_hi_trn"
    return {
        "id": f"{source}-{place:06d}",
        "kind": "chat",
        "source": source,
        "synthetic": False,
        "messages": told,
    }


def test_parallel_pairs_by_hand(tmp_path: Path) -> None:
    """Guards: an answer against another turn's or dialog's original, an original that is not scrubbed."""
    write(
        tmp_path,
        "codemixed_dstc2_en_trn",
        [[("any", "no")], [("cheap", "call 9876543210"), ("thanks", "bye")]],
    )
    pairs = preference_pairs([record(1, "sasta wala", "call karo", "shukriya", "alvida")], tmp_path)
    found = {p.id.rpartition("-")[2]: (len(p.prompt), p.chosen, p.rejected, p.synthetic) for p in pairs}
    assert found == {
        "1": (1, "call karo", "call [PHONE]", False),
        "3": (3, "alvida", "bye", False),
    }
    assert pairs[0].prompt[0] == {"role": "user", "content": "sasta wala"}


def test_sets_of_two_releases_are_refused(tmp_path: Path) -> None:
    """Guards: pairs of unrelated answers when one of the sets was replaced."""
    write(tmp_path, "codemixed_dstc2_en_trn", [[("any", "no")]])
    with pytest.raises(ValueError, match=r"dialog 0 is not that of codemixed_dstc2_hi_trn-000000; the two"):
        preference_pairs([record(0, "a", "b", "c", "d")], tmp_path)


def test_generated_pairs_without_the_sets(tmp_path: Path) -> None:
    """Guards: a default run without pairs; a leak of a number that is not in the prompt; both kinds mixed up;
    an order that depends on the records'."""
    chats = [g.record for g in generate_chats(60, seed=1, planted_fraction=0.0)]
    pairs = preference_pairs(chats, tmp_path)
    assert len(pairs) == 60
    assert all(p.synthetic and p.source == "generated" for p in pairs)
    leaking = [p for p in pairs if "account number" in p.prompt[-1]["content"]]
    assert 15 < len(leaking) < 45
    for p in pairs:
        if p in leaking:
            digits = p.prompt[-1]["content"].rpartition("number ")[2].split()[0]
            assert p.rejected == f"{p.chosen}. Aapka account number {digits} hai"
            assert digits not in p.chosen
        else:
            assert tag(p.rejected) == "en"
    assert preference_pairs(chats[::-1], tmp_path) == pairs


def test_the_planted_number_is_the_record_s_own() -> None:
    """Guards: one number for all, another one at every call, a prompt that was changed in place."""
    messages = [{"role": "user", "content": "UPI fail"}]
    told, digits = with_account(messages, "a")
    assert told == [{"role": "user", "content": f"UPI fail. Mera account number {digits} hai"}]
    assert len(digits) == 12
    assert with_account(messages, "a") == (told, digits)
    assert with_account(messages, "b")[1] != digits
    assert messages == [{"role": "user", "content": "UPI fail"}]


@pytest.mark.skipif("RAWGPT_DATA_MIRROR" not in os.environ, reason="the real sets come from the mirror")
def test_the_real_sets_are_parallel() -> None:
    """Guards: a set whose dialogs are not the other's: every answer Hinglish here and English there."""
    from gpt.corpus.instructions import READERS

    mirror = Path(os.environ["RAWGPT_DATA_MIRROR"]) / "hinglish"
    for hinglish, english in PARALLEL.items():
        ours, theirs = (list(READERS[hinglish](mirror / describe(name).file)) for name in (hinglish, english))
        assert [[m["role"] for m in d] for d in ours] == [[m["role"] for m in d] for d in theirs]
        answers = [
            (a["content"], b["content"])
            for one, other in zip(ours, theirs, strict=True)
            for a, b in zip(one, other, strict=True)
            if a["role"] == "assistant"
        ]
        assert len(answers) > 2500
        assert all(tag(a) == "hinglish" and tag(b) == "en" for a, b in answers)
