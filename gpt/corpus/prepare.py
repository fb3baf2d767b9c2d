"""From raw documents to documents.jsonl: clean, leave out short and repeated ones, split.

Reading the result is gpt/corpus/documents.py.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt.corpus.clean import clean
from gpt.corpus.config import FetchConfig
from gpt.corpus.split import cut_text, split_ids


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The corpus, ready to be written."""

    documents: list[dict[str, str]]
    """`{"id", "text", "split"}`, in the order in which they were read."""
    n_short: int
    """Documents left out for having fewer than min_chars characters."""
    n_repeated: int
    """Documents left out because an earlier one has the same text."""
    rule: str
    """How the two splits were made, in words."""

    def n_chars(self, split: str) -> int:
        """Count the characters of one split."""
        return sum(len(d["text"]) for d in self.documents if d["split"] == split)

    def ids(self, split: str) -> list[str]:
        """List the ids of one split."""
        return [d["id"] for d in self.documents if d["split"] == split]


def prepare(raw: Iterable[tuple[str, str]], config: FetchConfig) -> Prepared:
    """Clean, choose and split (id, text) pairs. Raises ValueError when nothing is left."""
    texts: dict[str, str] = {}
    seen: set[bytes] = set()
    n_read = n_short = n_repeated = 0
    for key, raw_text in raw:
        n_read += 1
        text = clean(raw_text)
        digest = hashlib.sha256(text.encode()).digest()
        if len(text) < config.min_chars:
            n_short += 1
        elif digest in seen:
            n_repeated += 1
        elif key in texts:
            raise ValueError(f"{config.source}: two documents have the id '{key}'; make ids unique")
        else:
            seen.add(digest)
            texts[key] = text
    if not texts:
        raise ValueError(
            f"{config.source}: an empty corpus: {n_read} documents were read, {n_short} of them "
            f"have fewer than {config.min_chars} characters; add text or lower fetch.min_chars"
        )
    if len(texts) == 1:
        ((key, text),) = texts.items()
        train, val = cut_text(text, val_fraction=config.val_fraction)
        documents = [
            {"id": f"{key}:train", "text": train, "split": "train"},
            {"id": f"{key}:val", "text": val, "split": "val"},
        ]
        rule = "the only document is cut by position at the end of a paragraph: val is its last part"
    else:
        sides = split_ids(list(texts), val_fraction=config.val_fraction, seed=config.seed)
        documents = [{"id": k, "text": text, "split": sides[k]} for k, text in texts.items()]
        rule = "by document: the hash of its id and the seed"
    return Prepared(documents=documents, n_short=n_short, n_repeated=n_repeated, rule=rule)


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, keys in order, Unicode as it is: the same bytes every time."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, sort_keys=True) + "\n")
