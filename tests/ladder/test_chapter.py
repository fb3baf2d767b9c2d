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
