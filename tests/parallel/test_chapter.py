"""docs/chapters/sharding.md prints what the benchmark measured, and the benchmark meets its goals."""

import json
from pathlib import Path

import pytest

from benchmarks.result_file import RESULTS
from benchmarks.zero3_against_fsdp2 import render
from gpt.parallel.memory import SLACK

CHAPTER = Path(__file__).parents[2] / "docs/chapters/sharding.md"


def test_the_chapters_tables_are_the_results() -> None:
    """Guards: a number pasted by hand, or a benchmark run again without `--table`."""
    result = json.loads((RESULTS / "zero3_against_fsdp2.json").read_text(encoding="utf-8"))
    chapter = CHAPTER.read_text(encoding="utf-8")
    for table in render(result).split("\n\n"):
        message = f"print it again: python -m benchmarks.zero3_against_fsdp2 --table\n{table}"
        assert table in chapter, message
    assert f"{result['n_parameters']:,} parameters, {result['ranks']} ranks" in chapter
    explained = chapter.count("| collective |")
    assert chapter.count("\n|---") == render(result).count("\n|---") + explained, "a table nobody printed"


def test_the_chapters_words_are_the_results() -> None:
    """Guards: prose that a new run has made untrue: memory and bytes by the formula, a step not slower than
    FSDP2's by more than a tenth, the same losses."""
    result = json.loads((RESULTS / "zero3_against_fsdp2.json").read_text(encoding="utf-8"))
    memory, moved = result["memory"], result["bytes_moved"]
    assert memory["measured"]["peak"] == pytest.approx(memory["formula"]["peak"], rel=SLACK)
    assert moved["per_step"] == pytest.approx(moved["formula"], rel=1e-3)
    elements = 3 * result["n_parameters"] * (result["ranks"] - 1) / result["ranks"]
    all_bytes = sum(moved["per_step"].values()) + moved["saved_by_keeping_the_root_and_the_last_block"]
    assert all_bytes == pytest.approx(4 * elements, rel=1e-3)
    assert result["options"]["dtype"] == "fp32"
    assert result["ratio_of_medians"] <= 1.1
    assert result["largest_gap_of_losses"] < 1e-4
