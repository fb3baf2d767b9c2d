"""docs/chapters/tokenizer.md prints what the benchmark measured, and claims no more."""

import json
from pathlib import Path

from benchmarks.bpe_training import render
from benchmarks.result_file import RESULTS

ROOT = Path(__file__).parents[2]
CHAPTER = ROOT / "docs/chapters/tokenizer.md"


def test_the_chapters_tables_are_the_results() -> None:
    """Guards: a number pasted by hand, or a benchmark run again without `--table`."""
    tables = render(json.loads((RESULTS / "bpe_training.json").read_text(encoding="utf-8")))
    chapter = CHAPTER.read_text(encoding="utf-8")
    for table in tables.split("\n\n"):
        assert table in chapter, f"print it again: python -m benchmarks.bpe_training --table\n{table}"
    assert chapter.count("|---") == tables.count("|---"), "a table that no benchmark printed"


def test_the_chapters_words_are_the_results() -> None:
    """Guards: prose that a new run has made untrue. The trainers took turns in one run."""
    result = json.loads((RESULTS / "bpe_training.json").read_text(encoding="utf-8"))
    assert set(result["sizes_mb"]) == {"20", "100"}
    for row in result["sizes_mb"].values():
        wall_s = {trainer: median["wall_s"] for trainer, median in row["trainers"].items()}
        assert row["same_tokens_as_rustbpe"]
        assert row["same_tokens_as_tokenizers"]
        assert wall_s["rustbpe"] < wall_s["ours"] < wall_s["tokenizers"]
        assert row["naive_over_ours_cpu_at_least"] >= 50
    lines = (ROOT / "gpt/tokenizer/train_bpe.py").read_text(encoding="utf-8").splitlines()
    assert f"It is {len(lines)} lines of Python" in CHAPTER.read_text(encoding="utf-8")
