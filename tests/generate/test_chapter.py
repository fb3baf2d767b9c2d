"""docs/chapters/serving_engine.md prints what the benchmarks measured, and they meet their goals."""

import json
from pathlib import Path

from benchmarks import batching, speculative
from benchmarks.result_file import RESULTS

CHAPTER = Path(__file__).parents[2] / "docs/chapters/serving_engine.md"


def test_the_chapters_tables_are_the_results() -> None:
    """Guards: a number pasted by hand, or a benchmark run again without `--table`."""
    chapter, n_tables = CHAPTER.read_text(encoding="utf-8"), 0
    for benchmark in (batching, speculative):
        result = json.loads((RESULTS / f"{benchmark.NAME}.json").read_text(encoding="utf-8"))
        for table in benchmark.render(result).split("\n\n"):
            assert table in chapter, f"print it again: python -m benchmarks.{benchmark.NAME} --table\n{table}"
            n_tables += 1
    assert chapter.count("\n|---") == n_tables, "a table nobody printed"


def test_the_chapters_words_are_the_results() -> None:
    """Guards: prose that a new run has made untrue: 64 streams at 8 times one, chunks that help the late
    request and the streams and cost the long prompt, a beginning read once, guesses that change no text."""
    result = json.loads((RESULTS / "batching.json").read_text(encoding="utf-8"))
    assert {"laptop", "s4-tiny"} <= set(result["streams"])
    for size in ("laptop", "s4-tiny"):
        assert result["streams"][size]["ratio_to_one_stream"]["64"] >= 8

    def median(question: str, way: str, name: str) -> float:
        return result[question]["ways"][way][name]["median_ms"]

    for name in ("late request's first token", "longest gap between a stream's tokens"):
        assert median("late_arrival", "in chunks", name) < median("late_arrival", "whole", name)
    name = "long prompt's first token"
    assert median("late_arrival", "in chunks", name) > median("late_arrival", "whole", name)
    shared, computed = (median("common_beginning", way, "second request") for way in ("shared", "computed"))
    assert shared < computed / 2
    for pair in json.loads((RESULTS / "speculative.json").read_text(encoding="utf-8"))["pairs"]:
        for row in pair["ways"].values():
            assert row["tokens_equal_to_plain"] == row["tokens"]
            assert min(row["tokens_per_pass"].values()) >= 1
