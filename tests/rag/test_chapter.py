"""docs/chapters/rag.md prints what the benchmark measured, and its words are true of it."""

import json

from benchmarks.result_file import RESULTS
from benchmarks.retrieval import CHAPTER, MARKS, render


def test_the_chapter_s_tables_are_the_result() -> None:
    """Guards: a number pasted by hand, or a benchmark run again whose chapter was thrown away."""
    result = json.loads((RESULTS / "retrieval.json").read_text(encoding="utf-8"))
    chapter = CHAPTER.read_text(encoding="utf-8")
    inside = chapter.partition(MARKS[0])[2].partition(MARKS[1])[0]
    assert inside == f"\n{render(result)}\n", "write it again: python -m benchmarks.retrieval --table"
    assert chapter.count("|---") == inside.count("|---"), "a table that no benchmark printed"


def test_the_default_is_the_best_within_its_error() -> None:
    """Guards: a default ranking that another one, with FAISS or without, beats clearly; dense vectors that
    beat what the chapter calls their exact score."""
    result = json.loads((RESULTS / "retrieval.json").read_text(encoding="utf-8"))
    for passages in sorted({row["passages"] for row in result["retrieval"]}):
        rows = [*result["retrieval"], *result.get("hidden", [])]
        scores = {row["way"]: row["recall_at_1"] for row in rows if row["passages"] == passages}
        (default,) = [way for way in scores if way.endswith("(default)")]
        for way, score in scores.items():
            assert scores[default]["value"] > score["value"] - 2 * score["stderr"], (passages, way)
