"""Write a sentence as its writer would: spelling, mixing, script, typos. Digits and punctuation stay.

Romanised Hindi has no fixed spelling: a list (spelling.yaml) has the usual ways of frequent words, and rules
(a long vowel written short, v for w, a final letter doubled) make the others. A writer who has spelled a
word once mostly spells it so again.
"""

import random
import re

from gpt.corpus.grammar import grammar
from gpt.corpus.language import hindi_words
from gpt.corpus.speaker import Speaker

WORD = re.compile(r"(?<![\w\ue001'])[A-Za-z]+(?![\w\ue000])")
RULES = (
    ("aa", "a"),
    ("ee", "i"),
    ("oo", "u"),
    ("w", "v"),
    ("iye", "iyega"),
    ("ye", "ie"),
    ("ph", "f"),
)
NEIGHBOURS = dict(zip("qwertyuiopasdfghjklzxcvbnm", "wertyuioplsdfghjkkxcvbnmn", strict=False))
MIXES = {"light": ("english", 0.6), "heavy": ("hindi", 0.6), "devanagari": ("devanagari", 0.95)}
KEEPS_SPELLING = 0.8


def write(text: str, speaker: Speaker, *, is_agent: bool) -> str:
    """Spell, mix and mistype the words of a text; an agent makes no mistakes but mixes the same way."""
    words, rng = grammar(), speaker.rng
    table, probability = MIXES.get(speaker.level, ("", 0.0))

    def one(match: re.Match[str]) -> str:
        word = match.group()
        plain = word.lower()
        if table and plain in words[table] and rng.random() < probability:
            return str(words[table][plain])
        if is_agent or word.isupper():
            return word
        if word.islower():
            word = _spelled(plain, speaker)
        if len(word) > 4 and rng.random() < speaker.typos:
            word = _mistyped(word, rng)
        return word

    return WORD.sub(one, text)


def punctuate(text: str, speaker: Speaker) -> str:
    """Give a customer's message the marks of his register."""
    rng, register = speaker.rng, speaker.register
    if register == "angry":
        chance = rng.random()
        if chance < 0.15:
            text = text.upper()
        text += rng.choice(("!", "!!", "!!!", " 😡", "??", "", ""))
    elif register == "polite":
        text = (
            text[:1].upper()
            + text[1:]
            + rng.choice((".", ".", "", " 🙏", "।" if speaker.level == "devanagari" else "."))
        )
    elif register == "casual":
        text += rng.choice(("", "", "", "..", " 😅", " yaar", " pls", " 🙏"))
    return text


def _spelled(word: str, speaker: Speaker) -> str:
    rng = speaker.rng
    if word in speaker.spelling and rng.random() < KEEPS_SPELLING:
        return speaker.spelling[word]
    ways = grammar()["variants"].get(word)
    spelled = word
    if ways and speaker.level != "english":
        spelled = rng.choice(ways)
    elif word in hindi_words() and rng.random() < 0.15:
        usual = [word.replace(a, b, 1) for a, b in RULES if a in word]
        spelled = rng.choice(usual) if usual else word
    speaker.spelling[word] = spelled
    return spelled


def _mistyped(word: str, rng: random.Random) -> str:
    """Drop, double, swap or miss a letter."""
    at = rng.randrange(1, len(word) - 1)
    before, letter, after = word[:at], word[at], word[at + 1 :]
    return rng.choice(
        (
            before + after,
            before + letter + letter + after,
            before + after[:1] + letter + after[1:],
            before + NEIGHBOURS.get(letter, letter) + after,
        )
    )
