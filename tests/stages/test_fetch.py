"""The fetch stage end to end on tiny corpora."""

import json
import os
from pathlib import Path

import pytest
import yaml

from stages.fetch import fetch
from tests.stages.machine import MACHINE

DIALS = {
    "text_field": "text",
    "val_fraction": 0.3,
    "seed": 1,
    "min_chars": 5,
    "redact": False,
    "near_duplicate_threshold": 0.8,
    "shingle_words": 5,
    "contamination": "report",
    "quality": {"min_mean_word": 0.0, "max_mean_word": 0.0, "max_symbols": 0.0, "max_repeated_lines": 0.0},
    "processes": 1,
    "extras": [],
}


def run_fetch(folder: Path, monkeypatch: pytest.MonkeyPatch, **dials: object) -> int:
    """Run the stage in `folder` and return its exit code."""
    monkeypatch.chdir(folder)
    params = {"machine": MACHINE, "fetch": {**DIALS, **dials}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return fetch.main(["--out", "data/fetch"])


def write_texts(folder: Path, n: int = 6) -> None:
    (folder / "own").mkdir()
    for i in range(n):
        (folder / "own" / f"{i}.txt").write_text(f"document {i} namaste\r\nline {i}\r\n", encoding="utf-8")


def test_own_folder_end_to_end_twice_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same input must give the same bytes, or every later stage runs again for nothing."""
    write_texts(tmp_path)
    monkeypatch.delenv("RAWGPT_DATA_MIRROR", raising=False)
    assert run_fetch(tmp_path, monkeypatch, source="own", extras=["boolq"]) == 0
    files = tmp_path / "data" / "fetch" / "files"
    first = {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()}
    documents = [json.loads(line) for line in first["documents.jsonl"].decode().splitlines()]
    assert [set(d) for d in documents] == [{"id", "text", "split"}] * 6
    assert documents[0]["text"] == "document 0 namaste\nline 0\n"
    assert {d["split"] for d in documents} == {"train", "val"}
    sources = json.loads(first["sources.json"])
    assert sources["extras"]["boolq"]["found"] is False
    assert "RAWGPT_DATA_MIRROR is not set" in sources["extras"]["boolq"]["reason"]
    metrics = json.loads((tmp_path / "data" / "fetch" / "metrics.json").read_text())
    assert (metrics["documents"], metrics["extras_found"], metrics["extras_absent"]) == (6, 0, 1)
    assert metrics["train_chars"] + metrics["val_chars"] == sum(len(d["text"]) for d in documents)
    assert run_fetch(tmp_path, monkeypatch, source="own", extras=["boolq"]) == 0
    assert first == {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()}


def test_extra_set_is_copied_from_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """evaluate and logs look for files/extra/<set>/<file>: what is there is the registered file."""
    mirror = Path(os.environ.get("RAWGPT_DATA_MIRROR", "/nonexistent"))
    if not (mirror / "eval" / "boolq.jsonl.bz2").is_file():
        pytest.skip("RAWGPT_DATA_MIRROR names no folder with eval/boolq.jsonl.bz2")
    write_texts(tmp_path)
    assert run_fetch(tmp_path, monkeypatch, source="own", extras=["boolq"]) == 0
    copied = tmp_path / "data" / "fetch" / "files" / "extra" / "boolq" / "boolq.jsonl.bz2"
    assert copied.read_bytes() == (mirror / "eval" / "boolq.jsonl.bz2").read_bytes()


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"source": "shakespear"}, "did you mean 'shakespeare'?; and there is no file or folder"),
        ({"source": "./gone.txt"}, "gone.txt: no such file or folder; check fetch.source"),
        ({"source": "bad.txt"}, "bad.txt: not UTF-8 at byte 3 (0xff)"),
        ({"source": "empty.txt"}, "empty.txt: an empty corpus"),
        ({"source": "own.jsonl", "text_field": "body"}, "has no field 'body'; it has text"),
        ({"source": "own.jsonl", "extras": ["hellaswg"]}, "'hellaswg' is not a set of the data registry"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dials: dict[str, object],
    message: str,
) -> None:
    """A user's mistake exits with 1, one clear line, and no half-written data folder."""
    (tmp_path / "bad.txt").write_bytes(b"abc\xff")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "own.jsonl").write_text('{"text": "first text"}\n{"text": "second text"}\n')
    assert run_fetch(tmp_path, monkeypatch, **dials) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data" / "fetch").exists()


def test_network_failure_is_worth_a_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network that is down exits with 75, so that Prefect tries again."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("connection refused")

    monkeypatch.delenv("RAWGPT_DATA_MIRROR", raising=False)
    monkeypatch.setattr("gpt.corpus.registry.obtain", refuse)
    assert run_fetch(tmp_path, monkeypatch, source="tinyshakespeare") == 75
    assert "connection refused" in capsys.readouterr().err
