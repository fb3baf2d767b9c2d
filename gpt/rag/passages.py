"""A passage: a stretch of a document, with the place where it stands.

Offsets count characters of the text as text_files.py reads it: a byte-order mark is no part of it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt.corpus.text_files import read_documents


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One text of the user's."""

    id: str
    """The file's name below the folder, with `#record` behind it for a record of a jsonl or parquet file."""
    text: str

    @property
    def sha256(self) -> str:
        """The identity of its text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """document.text[start:end], which is `text`."""

    document: str
    start: int
    end: int
    line: int
    """Line of the document in which it begins, from 1."""
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return f"{self.document}:{self.line} (characters {self.start}-{self.end})"


def read_folder(source: Path, *, text_field: str, max_mb: float) -> list[Document]:
    """Read the documents of a file or folder, blank ones left out.

    Raises ValueError with the path for what is missing, empty, too large, not UTF-8 or of no known kind.
    """
    if not source.exists():
        raise ValueError(f"documents: {source}: no such file or folder; give a folder of .txt, .md or .jsonl")
    pairs = read_documents(source, text_field=text_field)
    return take_documents((pair for pair in pairs if pair[1].strip()), max_mb=max_mb, where=str(source))


def take_documents(pairs: Iterable[tuple[str, str]], *, max_mb: float, where: str) -> list[Document]:
    """Hold (id, text) pairs, up to a limit. Raises ValueError above it, for no text, and for an id twice."""
    documents = list(_limited(pairs, max_mb, where))
    if not documents:
        raise ValueError(f"documents: {where} holds no text; put .txt, .md or .jsonl files with text there")
    ids = [document.id for document in documents]
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(f"documents: {where}: {twice} is there twice; give each record an id of its own")
    return documents


def _limited(pairs: Iterable[tuple[str, str]], max_mb: float, where: str) -> Iterator[Document]:
    total = 0
    for name, text in pairs:
        total += len(text)
        if total > max_mb * 1e6:
            raise ValueError(
                f"documents: {where}: more than {max_mb:g} million characters (at {name}); "
                "name a smaller folder or raise max_mb"
            )
        yield Document(id=name, text=text)
