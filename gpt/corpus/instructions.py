"""Chat records out of the public sets that the fetch stage found.

Code-Mixed-Dialog becomes dialogs, Hinglish-TOP "say this in Hinglish", BANKING77 "what does this
customer want", cucom its dialogs. The last is machine-written, so its records say synthetic.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gpt.corpus.split import unit_hash
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
WHAT_INTENT = (
    "Customer kya chahta hai? {text}",
    "What does this customer want? {text}",
    "Is message ka intent batao: {text}",
    "Name the intent of this message: {text}",
)


def real_chats(extra: Path, *, most: int) -> Iterator[dict[str, Any]]:
    """Yield the chat records of every known set below `extra`, `most` of them at most.

    Each set gives its share; which records it gives depends on their ids, not on their order.
    """
    found = {name: reader for name, reader in READERS.items() if (extra / name).is_dir()}
    for place, (name, reader) in enumerate(found.items()):
        share = most // (len(found) - place)
        (path,) = (extra / name).iterdir()
        records = [
            {
                "id": f"{name}-{i:06d}",
                "kind": "chat",
                "source": name,
                "synthetic": name in MACHINE_WRITTEN,
                "messages": messages,
            }
            for i, messages in enumerate(reader(path))
            if len(messages) >= 2
        ]
        chosen = sorted(records, key=lambda record: unit_hash(str(record["id"]), 0))[:share]
        most -= len(chosen)
        yield from sorted(chosen, key=lambda record: str(record["id"]))


def _dialogs(path: Path) -> Iterator[Messages]:
    """Code-Mixed-Dialog: drop database calls and the greeting, join what follows a silence."""
    for record in read_records(path):
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
        yield messages


def _translations(path: Path) -> Iterator[Messages]:
    """Hinglish-TOP: the English command and what people made of it."""
    for i, record in enumerate(read_records(path)):
        asked = TO_HINGLISH[i % len(TO_HINGLISH)].format(text=record["en_query"].strip())
        yield [_message("user", asked), _message("assistant", record["cs_query"].strip())]


def _intents(path: Path) -> Iterator[Messages]:
    """BANKING77: the query and its intent in words."""
    for i, row in enumerate(csv.DictReader(io.StringIO(read_text(path)))):
        text = " ".join(row["text"].split())
        asked = WHAT_INTENT[i % len(WHAT_INTENT)].format(text=text)
        intent = row["category"].replace("_", " ").lower()
        yield [_message("user", asked), _message("assistant", intent)]


def _machine_dialogs(path: Path) -> Iterator[Messages]:
    """cucom: user and assistant in turn, cut where they are not."""
    for record in read_records(path):
        messages: Messages = []
        for i, turn in enumerate(record["turns"]):
            if turn["role"] != ("user", "assistant")[i % 2]:
                break
            messages.append(_message(turn["role"], turn["content"]))
        yield messages[: len(messages) // 2 * 2]


def _message(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": SPACED_MARK.sub(r"\1", text.strip())}


READERS: dict[str, Callable[[Path], Iterator[Messages]]] = {
    "codemixed_dstc2_hi_trn": _dialogs,
    "codemixed_dstc2_hi_dev": _dialogs,
    "hinglish_top_train": _translations,
    "hinglish_top_validation": _translations,
    "banking77_train": _intents,
    "cucom_banking": _machine_dialogs,
}
MACHINE_WRITTEN = frozenset({"cucom_banking"})
