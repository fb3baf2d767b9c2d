"""The grammar's files: every slot exists, every list splits, expansion by hand."""

import random

import pytest

from gpt.corpus.grammar import CHOICE, HELD_OUT, SLOT, frames, grammar, is_frame
from gpt.corpus.speaker import make_speaker

LANGUAGES = ("hi", "en")
FILLED_BY_CODE = {
    "again",
    "other",
    "ref",
    "last4",
    "amount",
    "amount2",
    "when",
    "when2",
    "since",
    "bank2",
    "app2",
}
LOG_FIELDS = {"time", "reference", "flow", "status"}


def every_list() -> list[tuple[str, str, list[str]]]:
    """Return (name, language, lines) of words, frames and intents."""
    content = grammar()
    found = []
    for language in LANGUAGES:
        for group in ("words", "frames"):
            found += [(n, language, t.splitlines()) for n, t in content[group][language].items()]
        for intent, languages in content["intents"].items():
            found += [(f"{intent}.{n}", language, t.splitlines()) for n, t in languages[language].items()]
    return found


def test_every_slot_and_bracket_is_right() -> None:
    """A piece named in the grammar and not defined would fail in one chat of ten thousand."""
    content = grammar()
    for name, language, lines in every_list():
        known = {*content["words"][language], *content["frames"][language], *content["facts"]}
        known |= FILLED_BY_CODE | (LOG_FIELDS if name == "sms" else set())
        for line in lines:
            for slot in SLOT.findall(line):
                assert slot.isupper() or slot in known, (name, line)
            rest = line
            while CHOICE.search(rest):
                rest = CHOICE.sub("", rest)
            assert not set("[]|") & set(rest), (name, line)
            is_pair = name.rpartition(".")[2] in ("pairs", "clarify", "generic")
            assert (line.count(" => ") == 1) == is_pair, (name, line)
        assert len(set(lines)) == len(lines), f"{name} has a line twice"


def test_each_list_is_cut_once() -> None:
    """Guards: a frame on both sides or on none. A fifth is held out, one at least of two."""
    for name, language, lines in every_list():
        train, val = (frames(name, language, side) for side in ("train", "val"))  # type: ignore[arg-type]
        if not is_frame(name):
            assert train == val == tuple(line for line in lines if line)
            continue
        assert set(train).isdisjoint(val)
        assert sorted(train + val) == sorted(line for line in lines if line)
        n_lines = len(train + val)
        assert len(val) == (max(1, round(HELD_OUT * n_lines)) if n_lines > 1 else 0), name


def test_intents_have_every_part_in_both_languages() -> None:
    """Guards: an intent without an answer; fewer intents than the report says."""
    intents = grammar()["intents"]
    assert len(intents) == 30
    for name, languages in intents.items():
        for language in LANGUAGES:
            assert set(languages[language]) == {"problem", "clarify", "cause", "fix", "pairs"}, name
            assert len(languages[language]["problem"].splitlines()) >= 3, name


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("a [b|b] c", {"a b c"}),
        ("[x|y[1|2]]", {"x", "y1", "y2"}),
        ("ab[ c|]", {"ab c", "ab"}),
        ("{bank} se", {"SBI se"}),
    ],
)
def test_expansion_by_hand(template: str, expected: set[str]) -> None:
    """Nested alternatives from the inside out; an empty one is nothing; facts stand."""
    speaker = make_speaker(random.Random(1), 0.0, "train")
    speaker.facts["bank"] = "SBI"
    assert {speaker.expand(template) for _ in range(60)} == expected


def test_a_frame_is_not_said_twice() -> None:
    """Guards: an agent who repeats himself; what a {slot} needs is there all the same."""
    speaker = make_speaker(random.Random(1), 0.0, "train")
    drawn = [speaker.draw("upi_failed.fix") for _ in range(9)]
    said = [frame for frame in drawn if frame]
    assert len(said) == len(set(said)) == len(frames("upi_failed.fix", speaker.language, "train"))
    assert all(speaker.expand("{calm}") for _ in range(20))
