"""The generator's grammar: frames by name, language and side, and how a frame becomes words.

A frame is one line of hinglish.yaml or intents_*.yaml: words with {slots} and [one|of|these]. HELD_OUT of
every list of frames is used on the validation side alone, chosen by hash, the rest on the training side
alone; a list of one is the training side's. Words (greetings, reasons, facts) are shared.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from gpt.corpus.log_record import Side
from gpt.corpus.split import unit_hash

Language = Literal["hi", "en"]
HELD_OUT = 0.2
FILES = ("hinglish", "spelling")
INTENT_FILES = ("intents_money", "intents_account")


@cache
def grammar() -> dict[str, Any]:
    """Read the grammar that stands beside this file; its intents are under the key `intents`."""
    content: dict[str, Any] = {}
    for name in FILES:
        content |= _read(name)
    pairs = content["devanagari"].split()
    content["devanagari"] = dict(zip(pairs[::2], pairs[1::2], strict=True))
    content["intents"] = {k: v for name in INTENT_FILES for k, v in _read(name).items()}
    return content


@cache
def frames(name: str, language: Language, side: Side) -> tuple[str, ...]:
    """Return the frames of `plead` or `upi_failed.problem` that a side may use; none where it has none."""
    intent, _, part = name.rpartition(".")
    content = grammar()
    if not intent and name in content["words"][language]:
        return _lines(content["words"][language][name])
    lists = content["intents"][intent] if intent else content["frames"]
    lines = _lines(lists[language].get(part, ""))
    ordered = sorted(lines, key=lambda line: unit_hash(f"{name} {language} {line}", 0))
    n_val = max(1, round(HELD_OUT * len(lines))) if len(lines) > 1 else 0
    held_out = set(ordered[:n_val])
    return tuple(line for line in lines if (line in held_out) == (side == "val"))


def is_frame(name: str) -> bool:
    """Tell a list that is split between the sides from one that both use."""
    return "." in name or any(name in lists for lists in grammar()["frames"].values())


CHOICE = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")


def _read(name: str) -> dict[str, Any]:
    path = Path(__file__).with_name(f"{name}.yaml")
    content: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return content


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.split("\n") if line)
