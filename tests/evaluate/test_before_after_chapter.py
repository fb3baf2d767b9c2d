"""docs/chapters/finetuning.md prints what benchmarks/hinglish_before_after.py measured, and nothing else."""

from benchmarks.before_after_table import BEGIN, CHAPTER, END, render_all


def test_the_chapters_tables_are_the_results() -> None:
    """Guards: a number pasted by hand, or a benchmark run again whose tables were not written."""
    text = CHAPTER.read_text(encoding="utf-8")
    between = text.split(BEGIN)[1].split(END)[0].strip()
    assert between == render_all(), "type: python -m benchmarks.hinglish_before_after --table"
    assert text.count("|---") == render_all().count("|---"), "a table that no benchmark printed"
