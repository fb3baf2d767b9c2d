"""Lines end at a newline."""

import bz2
import json
from pathlib import Path

import pytest

from gpt.evaluate.json_lines import numbered_lines

TEXT = "paisa\u2028kab\u2029wapas\x85aaya"


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.bz2"])
def test_what_people_paste_ends_no_line(name: str, tmp_path: Path) -> None:
    """Guards: str.splitlines, which cuts a good record at U+2028, U+2029 or U+0085."""
    written = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in (TEXT, "haan"))
    path = tmp_path / name
    path.write_bytes(bz2.compress(written.encode()) if path.suffix == ".bz2" else written.encode())
    found = [(number, json.loads(line)["text"]) for number, line in numbered_lines(path)]
    assert found == [(1, TEXT), (2, "haan")]
