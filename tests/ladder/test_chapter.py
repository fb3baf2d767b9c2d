"""docs/chapters/ladder.md prints what the benchmark measured, and nothing else."""

import json
from pathlib import Path

from benchmarks.ladder_table import render
from benchmarks.result_file import RESULTS

CHAPTER = Path(__file__).parents[2] / "docs/chapters/ladder.md"


def test_the_chapters_tables_are_the_results() -> None:
    """Guards: a number pasted by hand, or a benchmark run again without `--table`."""
    result = json.loads((RESULTS / "ladder.json").read_text(encoding="utf-8"))
    chapter = CHAPTER.read_text(encoding="utf-8")
    for table in render(result).split("\n\n"):
        assert table in chapter, f"print it again: python -m benchmarks.ladder --table\n{table}"
    assert chapter.count("|---") == render(result).count("|---"), "a table that no benchmark printed"


def test_the_chapters_words_are_the_results() -> None:
    """Guards: prose that a new run has made untrue: the order, the impossible 2.35, the ordinary 4.63."""
    result = json.loads((RESULTS / "ladder.json").read_text(encoding="utf-8"))
    loss = {row["rung"]: row["val_loss"] for row in result["rows"]}
    error = {row["rung"]: row["standard_error"] for row in result["rows"]}
    assert sorted(loss, key=loss.__getitem__) == ["block", "mlp", "multi_head", "single_head", "bigram"]
    assert all(abs(loss[a] - loss["mlp"]) > 5 * error[a] for a in ("block", "multi_head", "single_head"))
    longer = {row["rung"]: row["val_loss"] for row in result["longer"]}
    assert sorted(longer, key=longer.__getitem__) == ["mlp", "multi_head", "single_head"]
    assert all(longer[rung] < loss[rung] for rung in longer)
    bigram = result["bigram"]
    assert bigram["single_batches"]["quoted"] < bigram["lowest_of_any_table"] < bigram["counted"]["add-1"]
    assert bigram["counted"]["add-1"] < bigram["counted"]["add-0.1"] < loss["bigram"]
    start = bigram["start"]
    assert abs(start["quoted"] - start["mean"]) < start["standard_deviation"]
