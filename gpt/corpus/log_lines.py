"""The lines of a user's log file, whatever wrote it; what cannot be read has a name instead of a text.

UTF-8 (with or without a mark), UTF-16 with its mark; a line that is not UTF-8 is read as Windows-1252, which
is what old exports are, and counted. A line of more than MAX_LINE_BYTES is passed over without being held.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_LINE_BYTES = 2**20
"""A chat of a thousand long turns; more is a dump that lost its ends of line."""


class BadInput(Exception):
    """A line or record that a rule refuses; its text is the rule's name, never a word of the content."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of a file."""

    number: int
    text: str
    """Without its end; empty when `bad` names a rule."""
    bad: str = ""
    is_recoded: bool = False
    """It was no UTF-8 and was read as Windows-1252."""


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a file, blank ones too: in a CSV they may stand inside a field."""
    with path.open("rb") as file:
        mark = file.read(2)
        file.seek(0)
        if mark in (b"\xff\xfe", b"\xfe\xff"):
            text = io.TextIOWrapper(file, encoding="utf-16", errors="replace", newline="\n")
            yield from _lines(text.readline, "\n", _from_text)
        else:
            yield from _lines(file.readline, b"\n", _from_bytes)


def _lines(
    readline: Callable[[int], Any], end: Any, decode: Callable[[Any], tuple[str, bool]]
) -> Iterator[Line]:
    number = 0
    while raw := readline(MAX_LINE_BYTES):
        number += 1
        if not raw.endswith(end) and len(raw) == MAX_LINE_BYTES:
            while (rest := readline(MAX_LINE_BYTES)) and not rest.endswith(end):
                pass
            yield Line(number=number, text="", bad="line_too_long")
            continue
        try:
            text, is_recoded = decode(raw)
        except BadInput as error:
            yield Line(number=number, text="", bad=str(error))
            continue
        yield Line(number=number, text=text, is_recoded=is_recoded)


def _from_bytes(raw: bytes) -> tuple[str, bool]:
    if b"\0" in raw:
        raise BadInput("nul_byte")
    raw = raw.rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode(), False
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode("cp1252"), True
    except UnicodeDecodeError:
        raise BadInput("encoding") from None


def _from_text(raw: str) -> tuple[str, bool]:
    if "\0" in raw:
        raise BadInput("nul_byte")
    if "\ufffd" in raw:
        raise BadInput("encoding")
    return raw.rstrip("\r\n").removeprefix("\ufeff"), False
