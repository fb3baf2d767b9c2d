"""Stage folders as they lie on disk: metrics, curves, scores. What is not there is said, never made up.

A piece that is missing is `{"absent": reason}`; a piece that is damaged raises ValueError with its path.
"""

import csv
import json
from pathlib import Path
from typing import Any

FORMAT = "rawgpt-results-1"
"""Of results.json."""


def absent(reason: str) -> dict[str, Any]:
    """Return what stands in the place of a missing piece."""
    return {"absent": reason}


def is_absent(piece: Any) -> bool:
    """Return whether a piece only says why it is missing."""
    return isinstance(piece, dict) and set(piece) == {"absent"}


def read_json(path: Path) -> Any:
    """Return a JSON file's content, or an absence when there is no such file."""
    if not path.is_file():
        return absent(f"{path.name} of {path.parent.name} is not here; run `dvc repro`")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path}: damaged; remove it and run `dvc repro`") from None


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a curve file, numbers as numbers and empty cells as None; none without a file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return [{key: _cell(key, value) for key, value in row.items()} for row in csv.DictReader(file)]
        except (ValueError, TypeError):
            raise ValueError(f"{path}: a cell is not a number; remove it and run `dvc repro`") from None


def _cell(column: str, text: str) -> Any:
    if column == "rung":
        return text
    if not text:
        return None
    return int(text) if column in ("step", "tokens") else float(text)
