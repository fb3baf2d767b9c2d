"""gpt/corpus/documents.py: parts of a file give what the whole gives."""

import json
from pathlib import Path

import pytest

from gpt.corpus.documents import cut_parts, read_part, read_split


def write(folder: Path, n: int) -> list[dict[str, str]]:
    documents = [
        {"id": f"d{i}", "text": "पैसा\n" * (i % 7) + "x", "split": ("train", "val")[i % 3 == 0]}
        for i in range(n)
    ]
    lines = [json.dumps(document, ensure_ascii=False) + "\n" for document in documents]
    (folder / "documents.jsonl").write_text("".join(lines), encoding="utf-8")
    return documents


@pytest.mark.parametrize("part_bytes", [1, 2, 50, 51, 52, 53, 997, 10**6])
def test_parts_lose_and_repeat_no_line(tmp_path: Path, part_bytes: int) -> None:
    """Guards: a line that begins at a part's first byte, read by both parts or by none."""
    documents = write(tmp_path, 40)
    for split in ("train", "val"):
        wanted = [document for document in documents if document["split"] == split]
        parts = cut_parts(tmp_path, part_bytes)
        assert [document for part in parts for document in read_part(part, split)] == wanted
        assert list(read_split(tmp_path, split)) == wanted


def test_a_broken_line_is_named_by_its_byte(tmp_path: Path) -> None:
    write(tmp_path, 2)
    path = tmp_path / "documents.jsonl"
    size = path.stat().st_size
    with path.open("a") as file:
        file.write("{broken\n")
    with pytest.raises(ValueError, match=f"byte {size}: not a document"):
        list(read_split(tmp_path, "train"))


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "documents.jsonl").write_text("")
    with pytest.raises(ValueError, match="no document in split 'val'"):
        list(read_split(tmp_path, "val"))
