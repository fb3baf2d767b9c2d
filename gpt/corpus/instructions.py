"""Chat records out of the public sets that the fetch stage found.

Code-Mixed-Dialog becomes dialogs; with its English originals beside it also English dialogs and "say this
in Hinglish", turn by turn; Hinglish-TOP the same of commands; the intent sets "what does this customer
want" (intents.py); cucom its dialogs; rasbt and alpaca English instructions. The last three are
machine-written, so their records say synthetic. Not evaluation sets: evaluation_sets.py.
"""

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from gpt.corpus.intents import SETS, Query, read_queries
from gpt.corpus.log_record import Draft, Side, chat_record
from gpt.corpus.split import SPLITS, side_of, unit_hash
from gpt.corpus.text_files import read_records, read_text

Messages = list[dict[str, str]]
SILENCE = "<SILENCE>"
SPACED_MARK = re.compile(r" ([,.?!])")
TO_HINGLISH = (
    "Ise Hinglish me likho: {text}",
    "Say this in Hinglish: {text}",
    "Is command ko Hinglish me kaise bolenge? {text}",
    "Hinglish me badlo: {text}",
)
TO_ENGLISH = ("Say this in English: {text}", "Ise English me likho: {text}")


def real_drafts(
    extra: Path, queries: Iterable[Query], *, most: int, val_fraction: float, seed: int
) -> Iterator[Draft]:
    """Yield chats of every known set below `extra`, `most` of them at most, val_fraction of those held out.

    `queries` are those of the intent sets. Each set gives its share of a side; which records it gives
    depends on their ids, not on their order.
    """
    drafts = {name: _of_set(name, extra, val_fraction, seed) for name in READERS if (extra / name).is_dir()}
    for query in queries:
        drafts.setdefault(query.source, []).append(query.draft)
    left = {"val": round(most * val_fraction)}
    left["train"] = most - left["val"]
    for side in SPLITS:
        sides = [[draft for draft in of_set if draft.side == side] for of_set in drafts.values()]
        sides = sorted(filter(None, sides), key=len)  # what a small set leaves over goes to the larger ones
        for place, of_set in enumerate(sides):
            share = left[side] // (len(sides) - place)
            chosen = sorted(of_set, key=lambda draft: unit_hash(str(draft.record["id"]), 0))[:share]
            left[side] -= len(chosen)
            yield from sorted(chosen, key=lambda draft: str(draft.record["id"]))


def instruction_drafts(extra: Path, *, val_fraction: float, seed: int) -> Iterator[Draft]:
    """Yield the English instructions of the training side, all of them."""
    for name in INSTRUCTIONS:
        if (extra / name).is_dir():
            yield from (d for d in _of_set(name, extra, val_fraction, seed) if d.side == "train")


def intent_queries(extra: Path, *, val_fraction: float, seed: int) -> Iterator[Query]:
    """Yield the queries of every intent set below `extra`, both sides."""
    for name in SETS:
        if (extra / name).is_dir():
            (path,) = (extra / name).iterdir()
            yield from read_queries(name, path, val_fraction=val_fraction, seed=seed)


def _of_set(name: str, extra: Path, val_fraction: float, seed: int) -> list[Draft]:
    """Return a set's chats; its own split holds where it has one, else a hash of the id decides."""
    (path,) = (extra / name).iterdir()
    drafts = []
    for i, messages in enumerate(READERS[name](path)):
        key = f"{name}-{i:06d}"
        if len(messages) >= 2:
            record = chat_record(key, name, messages, is_synthetic=name in MACHINE_WRITTEN)
            drafts.append(Draft(record=record, side=OWN_SIDES.get(name) or side_of(key, seed, val_fraction)))
    return drafts


def _dialogs(path: Path) -> Iterator[Messages]:
    """Code-Mixed-Dialog: drop database calls and the greeting, join what follows a silence."""
    yield from (_dialog(record) for record in read_records(path))


def _dialog(record: dict[str, Any]) -> Messages:
    messages: Messages = []
    for turn in record["turns"]:
        user, answer = turn["user"], turn["assistant"]
        if user != SILENCE:
            if messages and messages[-1]["role"] == "user":
                messages.pop()  # it was answered by a database call alone
            messages.append(_message("user", user))
        if answer.startswith("api_call") or not messages:
            continue
        if messages[-1]["role"] == "user":
            messages.append(_message("assistant", answer))
        else:
            messages[-1]["content"] += " " + _message("assistant", answer)["content"]
    if messages and messages[-1]["role"] == "user":
        messages.pop()
    return messages


def _translations(path: Path) -> Iterator[Messages]:
    """Hinglish-TOP: the English command and what people made of it."""
    for i, record in enumerate(read_records(path)):
        asked = TO_HINGLISH[i % len(TO_HINGLISH)].format(text=record["en_query"].strip())
        yield [_message("user", asked), _message("assistant", record["cs_query"].strip())]


def _parallel(path: Path) -> Iterator[Messages]:
    """English originals: each dialog, and of each one turn with its Hinglish, asked for either way."""
    hinglish = path.parents[1] / path.parent.name.replace("_en_", "_hi_")
    others = [record for file in hinglish.glob("*") for record in read_records(file)]  # none: not fetched
    for i, record in enumerate(read_records(path)):
        yield _dialog(record)
        pairs = _turn_pairs(record, others[i]) if others else []
        if not pairs:
            continue
        english, mixed = pairs[i % len(pairs)]
        asked, text, answer = TO_HINGLISH[i % 4], english, mixed
        if i % 4 == 0:
            asked, text, answer = TO_ENGLISH[i // 4 % 2], mixed, english
        yield [_message("user", asked.format(text=text.strip())), _message("assistant", answer)]


def _turn_pairs(english: dict[str, Any], mixed: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is said in a dialog in both languages, turn by turn."""
    return [
        (a[role], b[role])
        for a, b in zip(english["turns"], mixed["turns"], strict=True)
        for role in ("user", "assistant")
        if a[role] != SILENCE and not a[role].startswith("api_call")
    ]


def _machine_dialogs(path: Path) -> Iterator[Messages]:
    """cucom: user and assistant in turn, cut where they are not."""
    yield from map(_in_turn, read_records(path))


def _packed_dialogs(path: Path) -> Iterator[Messages]:
    """cucom's shops: the same in a zip file of one member; its assistant is called agent."""
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as lines:
        yield from (_in_turn(json.loads(line)) for line in lines)


def _in_turn(record: dict[str, Any]) -> Messages:
    messages: Messages = []
    for i, turn in enumerate(record["turns"]):
        role = "assistant" if turn["role"] == "agent" else turn["role"]
        if role != ("user", "assistant")[i % 2]:
            break
        messages.append(_message(role, turn["content"]))
    return messages[: len(messages) // 2 * 2]


def _instructions(path: Path) -> Iterator[Messages]:
    """English instructions: what is asked, with what it is asked about, and the answer."""
    for record in json.loads(read_text(path)):
        asked = "\n".join(filter(None, (record["instruction"], record["input"])))
        if record["output"].strip():
            yield [_message("user", asked), _message("assistant", record["output"])]


def _message(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": SPACED_MARK.sub(r"\1", text.strip())}


READERS: dict[str, Callable[[Path], Iterator[Messages]]] = {
    "codemixed_dstc2_hi_trn": _dialogs,
    "codemixed_dstc2_hi_dev": _dialogs,
    "codemixed_dstc2_en_trn": _parallel,
    "codemixed_dstc2_en_dev": _parallel,
    "hinglish_top_train": _translations,
    "hinglish_top_validation": _translations,
    "cucom_banking": _machine_dialogs,
    "cucom_ecommerce": _packed_dialogs,
    "instructions_rasbt": _instructions,
    "instructions_alpaca": _instructions,
}
OWN_SIDES: dict[str, Side] = {
    "codemixed_dstc2_hi_trn": "train",
    "codemixed_dstc2_hi_dev": "val",
    "codemixed_dstc2_en_trn": "train",
    "codemixed_dstc2_en_dev": "val",
    "hinglish_top_train": "train",
    "hinglish_top_validation": "val",
}
INSTRUCTIONS = ("instructions_rasbt", "instructions_alpaca")
MACHINE_WRITTEN = frozenset({"cucom_banking", "cucom_ecommerce", *INSTRUCTIONS})
