"""docs/chapters/finetuning.md prints what benchmarks/hinglish_before_after.py measured, and nothing else."""

import json

from benchmarks import demo_answers
from benchmarks.before_after_table import BEGIN, CHAPTER, END, render_all
from benchmarks.result_file import RESULTS


def test_the_chapters_tables_are_the_results() -> None:
    """Guards: a number pasted by hand, or a benchmark run again whose tables were not written."""
    text = CHAPTER.read_text(encoding="utf-8")
    between = text.split(BEGIN)[1].split(END)[0].strip()
    assert between == render_all(), "type: python -m benchmarks.hinglish_before_after --table"
    assert text.count("|---") == render_all().count("|---"), "a table that no benchmark printed"


def test_the_chapters_answers_are_the_results() -> None:
    """Guards: answers that somebody chose or mended by hand."""
    text = CHAPTER.read_text(encoding="utf-8")
    result = json.loads((RESULTS / "demo_answers.json").read_text(encoding="utf-8"))
    between = text.split(demo_answers.BEGIN)[1].split(demo_answers.END)[0].strip()
    assert between == demo_answers.render(result), "type: python -m benchmarks.demo_answers --table"
    assert len(result["answers"]) == 10


def test_the_control_of_the_counter_came_back() -> None:
    """Guards: a count of 0 that any counter gives. Lines longer than a row lost their values once: the
    control had learned nothing, and 0 of 1,000 said nothing."""
    for path in sorted(RESULTS.glob("hinglish_before_after*.json")):
        control = json.loads(path.read_text(encoding="utf-8"))["control"]
        greedily = next(row for row in control["learned"] if row["metric"] == "canaries_greedy")
        assert greedily["value"] > greedily["n"] / 2, path.name
