"""Queries with an intent out of a closed list: instruction data, and a held-out set to score accuracy on.

A set's own split is used where it has one (CLINC150); elsewhere a hash of the query decides. The names
are the sets' own, underscores as spaces. NLU++ gives several intents to most utterances: those are
instruction data ("pin, arrival, new"), and only utterances with one intent are scored.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt.corpus.log_record import Draft, Side, chat_record
from gpt.corpus.split import side_of, unit_hash
from gpt.corpus.text_files import read_records, read_text

QUESTIONS = (
    "Customer kya chahta hai? ",
    "What does this customer want? ",
    "Is message ka intent batao: ",
    "Name the intent of this message: ",
)
MOST_HELD_OUT = 500
"""Held-out queries of one set, at most: a standard error of two points in a hundred."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One customer's words and what they ask for."""

    key: str
    source: str
    text: str
    labels: tuple[str, ...]
    side: Side
    is_synthetic: bool = False

    @property
    def prompt(self) -> str:
        """The question that the model is asked; which wording depends on the query alone."""
        return QUESTIONS[int(unit_hash(self.text, 0) * len(QUESTIONS))] + self.text

    @property
    def draft(self) -> Draft:
        """The query as a chat: the question, and its intents as the answer."""
        messages = [
            {"role": "user", "content": self.prompt},
            {"role": "assistant", "content": ", ".join(self.labels)},
        ]
        record = chat_record(self.key, self.source, messages, is_synthetic=self.is_synthetic)
        return Draft(record=record, side=self.side)


def read_queries(name: str, path: Path, *, val_fraction: float, seed: int) -> Iterator[Query]:
    """Yield the queries of a set; one whose words the training side holds too is not on the other."""
    queries = [
        Query(
            key=f"{name}-{i:06d}",
            source=name,
            text=" ".join(text.split()),
            labels=tuple(label.replace("_", " ").lower() for label in labels),
            side=side or side_of(text.lower(), seed, val_fraction),
        )
        for i, (text, labels, side) in enumerate(SETS[name](path))
    ]
    taught = {query.text.lower() for query in queries if query.side == "train"}
    yield from (query for query in queries if query.side == "train" or query.text.lower() not in taught)


def held_out(queries: Iterable[Query]) -> tuple[list[dict[str, str]], dict[str, list[str]]]:
    """Return the rows of intents.jsonl and {set: its closed list of names}.

    A row is {"set", "text", "label", "prompt"}: a validation query with one intent, MOST_HELD_OUT of a set
    at most, chosen by hash. A list holds every name of its set, from both sides.
    """
    names: dict[str, set[str]] = {}
    rows: dict[str, list[Query]] = {}
    for query in queries:
        names.setdefault(query.source, set()).update(query.labels)
        if query.side == "val" and len(query.labels) == 1:
            rows.setdefault(query.source, []).append(query)
    chosen = [
        {"set": name, "text": query.text, "label": query.labels[0], "prompt": query.prompt}
        for name in sorted(rows)
        for query in sorted(rows[name], key=lambda query: unit_hash(query.key, 0))[:MOST_HELD_OUT]
    ]
    return chosen, {name: sorted(labels) for name, labels in sorted(names.items())}


Row = tuple[str, list[str], Side | None]


def _banking77(path: Path) -> Iterator[Row]:
    for row in csv.DictReader(io.StringIO(read_text(path))):
        yield row["text"], [row["category"]], None


def _clinc150(path: Path) -> Iterator[Row]:
    for record in read_records(path):
        yield record["text"], [record["intent"]], "train" if record["split"] == "train" else "val"


def _nlupp(path: Path) -> Iterator[Row]:
    records: Iterator[dict[str, Any]] = read_records(path)
    for record in records:
        if record.get("intents"):
            yield record["text"], record["intents"], None


SETS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "banking77_train": _banking77,
    "clinc150_banking": _clinc150,
    "nlupp_banking": _nlupp,
}
