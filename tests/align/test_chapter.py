"""docs/chapters/alignment.md prints what the benchmark measured, and its words are true of it."""

import json
from pathlib import Path

from benchmarks.alignment import render
from benchmarks.result_file import RESULTS

CHAPTER = Path(__file__).parents[2] / "docs/chapters/alignment.md"


def test_the_chapter_s_table_is_the_result() -> None:
    """Guards: a number pasted by hand, or a benchmark run again without `--table`."""
    result = json.loads((RESULTS / "alignment.json").read_text(encoding="utf-8"))
    chapter = CHAPTER.read_text(encoding="utf-8")
    table = render(result)
    assert table in chapter, f"print it again: python -m benchmarks.alignment --table\n{table}"
    assert chapter.count("|---") == table.count("|---"), "a table that no benchmark printed"


def test_the_chapter_s_words_are_the_result() -> None:
    """Guards: `rises in every run` and `within ten nats` where a new run shows neither; a hole that a new run
    finds and the chapter still calls unexploited."""
    result = json.loads((RESULTS / "alignment.json").read_text(encoding="utf-8"))
    for label, run in result["runs"].items():
        reward = label.partition(", ")[2]
        gained = run["summary"]["reward"]["mean"] - result["before"][reward]["reward"]
        assert gained > 0, f"{label}: the held-out reward did not rise"
        assert all(row["kl"] < 10 for made in run["seeds"] for row in made["curve"]), label
        toy_gained = run["summary"]["toy_reward"]["mean"] - result["before"][reward]["toy_reward"]
        assert toy_gained > 0, f"{label}: what was wanted fell; say so in the chapter"
        repeats = result["before"][reward]["distinct_words"] - run["summary"]["distinct_words"]["mean"]
        assert 0 < repeats < 0.15, f"{label}: answers repeat themselves more, or less, than the chapter says"
