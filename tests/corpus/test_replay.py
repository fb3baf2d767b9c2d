"""English passages to repeat: of the training documents, each once, of one size."""

import json
from pathlib import Path

from gpt.corpus.replay import PASSAGE_CHARS, cut_passages, passages


def test_passages_are_pieces_of_their_text() -> None:
    """Guards: words lost inside a passage, a passage that no sequence holds, a line of a megabyte."""
    lines = [f"line {i} of the play, and some more words" for i in range(100)]
    cut = list(cut_passages("\n".join(lines)))
    assert "\n".join(cut) == "\n".join(lines[: sum(passage.count("\n") + 1 for passage in cut)])
    assert all(PASSAGE_CHARS <= len(passage) < PASSAGE_CHARS + 60 for passage in cut)
    long = list(cut_passages("word " * 2000))
    assert "".join(long).replace(" ", "") in ("word" * 2000)
    assert all(len(passage) <= 2 * PASSAGE_CHARS for passage in long)
    assert all(len(passage) <= 2 * PASSAGE_CHARS for passage in cut_passages("x" * 5000))
    assert not list(cut_passages("short\n" * 3))


def test_only_training_documents_are_repeated(tmp_path: Path) -> None:
    """Guards: validation text learned through the back door; another choice when documents are added."""
    texts = {name: "\n".join(f"{name} {i} says a line of its own" for i in range(200)) for name in "abc"}
    rows = [{"id": n, "text": t, "split": "val" if n == "b" else "train"} for n, t in texts.items()]
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = passages(tmp_path, most=5, seed=1)
    assert len(made) == 5 == len({record["id"] for record in made})
    assert all(record["kind"] == "text" and record["text"][0] in "ac" for record in made)
    everything = {record["id"] for record in passages(tmp_path, most=1000, seed=1)}
    assert len(everything) > 10
    assert {record["id"] for record in made} < everything
