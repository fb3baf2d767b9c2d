"""How a writer spells: one way mostly, digits and planted values never touched."""

import random
from itertools import pairwise

from gpt.corpus.speaker import Speaker, make_speaker
from gpt.corpus.spelling import KEEPS_SPELLING, write


def speaker(level: str, typos: float = 0.0) -> Speaker:
    made = make_speaker(random.Random(3), 0.0, "train")
    made.level, made.typos = level, typos
    return made


def test_levels_by_hand() -> None:
    """Each level changes the words of its own table alone; English changes none."""
    text = "payment nahi aaya, jaldi karo"
    assert write(text, speaker("english"), is_agent=True) == text
    many = " ".join([text] * 40)
    assert "quickly" in write(many, speaker("light"), is_agent=True)
    heavy = write(many, speaker("heavy"), is_agent=True)
    assert "bhugtaan" in heavy
    assert "quickly" not in heavy
    hindi = write(many, speaker("devanagari"), is_agent=True)
    assert "नहीं" in hindi
    assert hindi.count("nahi") < 10


def test_digits_and_planted_values_stay() -> None:
    """Guards: a canary that a typo changed, which then counts as scrubbed."""
    text = "mera number \ue0000\ue001 hai, amount 12,500 aur ref ABC23XY, bahut zaruri\ue0001\ue001"
    for level in ("english", "light", "heavy", "devanagari"):
        for seed in range(30):
            who = speaker(level, typos=1.0)
            who.rng = random.Random(seed)
            out = write(text, who, is_agent=False)
            for kept in ("\ue0000\ue001", "\ue0001\ue001", "12,500", "ABC23XY"):
                assert kept in out


def test_a_writer_keeps_his_spelling() -> None:
    """Guards: a chat in which every nahi is another one, which no person writes."""
    who = speaker("heavy")
    said = [write("nahi", who, is_agent=False) for _ in range(200)]
    kept = sum(a == b for a, b in pairwise(said)) / 199
    assert kept > KEEPS_SPELLING - 0.1
    others = {write("nahi", speaker_of(seed), is_agent=False) for seed in range(60)}
    assert {"nahi", "nahin", "nhi", "nai"} <= others


def speaker_of(seed: int) -> Speaker:
    made = make_speaker(random.Random(seed), 0.0, "train")
    made.level = "heavy"
    return made
