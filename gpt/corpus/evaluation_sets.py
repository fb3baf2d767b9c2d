"""The texts of the evaluation sets that fetch found: what a training corpus must not hold.

An item is what a model would be asked and answered, in one or more pieces; the labels that a set's
maintainers put before a question ("Question:", "Answer:") are not part of it.
"""

import bz2
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from gpt.corpus.text_files import read_records

Item = tuple[str, ...]
LABEL = re.compile(r"(?:Passage|Question|Answer):\s*")


def evaluation_items(extra: Path) -> dict[str, list[Item]]:
    """Return the items of every evaluation set below `extra`, by the set's name."""
    found: dict[str, list[Item]] = {}
    for name, reader in READERS.items():
        if (extra / name).is_dir():
            (path,) = (extra / name).iterdir()
            found[name] = list(reader(path))
    return found


def _hellaswag(path: Path) -> Iterator[Item]:
    """The context goes on in the right ending; the wrong ones are machine-written."""
    for record in read_records(path):
        yield (f"{record['ctx']} {record['endings'][record['label']]}",)


def _lambada(path: Path) -> Iterator[Item]:
    for record in read_records(path):
        yield (f"{record['context']} {record['continuation']}",)


def _questions(field: str) -> Callable[[Path], Iterator[Item]]:
    def read(path: Path) -> Iterator[Item]:
        for record in read_records(path):
            yield tuple(piece for piece in LABEL.split(record[field]) if piece.strip())

    return read


def _xquad(path: Path) -> Iterator[Item]:
    """A question; its passage is an item of its own, once, because many questions share it."""
    with bz2.open(path, "rt", encoding="utf-8") as file:
        content = json.load(file)
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            yield (paragraph["context"],)
            for question in paragraph["qas"]:
                yield (question["question"],)


READERS: dict[str, Callable[[Path], Iterator[Item]]] = {
    "hellaswag_val": _hellaswag,
    "lambada_openai": _lambada,
    "boolq": _questions("query"),
    "triviaqa": _questions("context"),
    "xquad": _xquad,
}
