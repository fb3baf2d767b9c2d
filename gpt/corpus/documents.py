"""documents.jsonl: the cleaned corpus, one JSON object a line with id, text and split.

A corpus larger than memory is read in parts: ranges of bytes that begin and end at a line.
"""

import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Document = dict[str, str]
PART_BYTES = 64 * 2**20
"""Small enough to hold in memory a few times over, large enough that a process earns its start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentPart:
    """The lines of a documents.jsonl that begin in [start, stop) bytes."""

    path: Path
    start: int
    stop: int


def cut_parts(files: Path, part_bytes: int = PART_BYTES) -> list[DocumentPart]:
    """Cut a fetch folder's documents into parts of about `part_bytes`, in their order."""
    path = files / "documents.jsonl"
    size = path.stat().st_size
    starts = range(0, size, part_bytes)
    return [DocumentPart(path=path, start=start, stop=min(start + part_bytes, size)) for start in starts]


def read_part(part: DocumentPart, split: str | None = None) -> Iterator[Document]:
    """Yield a part's documents, or those of one split.

    Raises ValueError with file and byte for a broken line, and when the file is not there: a worker on
    another machine sees the shared folder or nothing.
    """
    try:
        lines = part.path.open("rb")
    except FileNotFoundError:
        raise ValueError(
            f"{part.path.absolute()}: no such file on {platform.node()}; a worker needs the folder of the "
            "documents at the same path: share it, or set workers.engine to local"
        ) from None
    with lines:
        if part.start:
            lines.seek(part.start - 1)
            lines.readline()  # a line that began earlier belongs to the part before
        at = lines.tell()
        while at < part.stop:
            line = lines.readline()
            try:
                document = json.loads(line)
                own = {"id": document["id"], "text": document["text"], "split": document["split"]}
            except (ValueError, KeyError, TypeError):
                raise ValueError(
                    f"{part.path}: byte {at}: not a document; run `dvc repro -f fetch`"
                ) from None
            if split is None or own["split"] == split:
                yield own
            at += len(line)


def read_split(files: Path, split: str) -> Iterator[Document]:
    """Yield the documents of one split of a fetch folder, one at a time.

    Raises ValueError with file and byte for a broken line, and when the split is empty.
    """
    found = False
    for part in cut_parts(files):
        for document in read_part(part, split):
            found = True
            yield document
    if not found:
        path = files / "documents.jsonl"
        raise ValueError(f"{path}: no document in split {split!r}; change fetch.val_fraction or add text")
