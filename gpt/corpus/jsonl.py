"""Writing one JSON object a line, the same bytes every time."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def jsonl_line(record: dict[str, Any]) -> bytes:
    """Return a record as a line: keys in order, Unicode as it is."""
    return (json.dumps(record, ensure_ascii=False, sort_keys=True) + "\n").encode()


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write one record a line; the records may be more than memory holds."""
    with path.open("wb") as file:
        file.writelines(map(jsonl_line, records))
