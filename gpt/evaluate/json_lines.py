"""Lines of a JSON Lines file, numbered: they end at a newline and nowhere else.

`str.splitlines` also cuts at U+2028, U+2029 and U+0085, which stand unescaped in text that people paste.
"""

import bz2
from collections.abc import Iterator
from pathlib import Path


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of a file, .bz2 or plain; if damaged EOFError, UnicodeDecodeError."""
    opener = bz2.open if path.suffix == ".bz2" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            yield number, line.removesuffix("\n")
