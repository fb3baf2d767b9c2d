"""docs/chapters/sharding.md prints what the benchmarks measured, and they meet their goals."""

import json
from pathlib import Path

import pytest

from benchmarks import expert_parallel, zero3_against_fsdp2
from benchmarks.result_file import RESULTS
from gpt.parallel.memory import SLACK

CHAPTER = Path(__file__).parents[2] / "docs/chapters/sharding.md"


def test_the_chapters_tables_are_the_results() -> None:
    """Guards: a number pasted by hand, or a benchmark run again without `--table`."""
    chapter, n_tables = CHAPTER.read_text(encoding="utf-8"), 0
    for benchmark in (zero3_against_fsdp2, expert_parallel):
        result = json.loads((RESULTS / f"{benchmark.NAME}.json").read_text(encoding="utf-8"))
        for table in benchmark.render(result).split("\n\n"):
            assert table in chapter, f"print it again: python -m benchmarks.{benchmark.NAME} --table\n{table}"
            n_tables += 1
        assert f"{result['n_parameters']:,} parameters, {result['ranks']} ranks" in chapter
    explained = chapter.count("| collective |")
    assert chapter.count("\n|---") == n_tables + explained, "a table nobody printed"


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


def test_the_experts_words_are_the_results() -> None:
    """Guards: prose about experts that a new run has made untrue: memory by the formula, bytes too but for
    the router's share, the same losses whatever the way, and fewer bytes moved and held with the experts
    across ranks than with all of them on each."""
    result = json.loads((RESULTS / "expert_parallel.json").read_text(encoding="utf-8"))
    held, moved = result["bytes_at_rest_of_rank_0"], result["bytes_moved_per_step"]
    for name in expert_parallel.WAYS:
        assert held[name]["measured"] == pytest.approx(held[name]["formula"], rel=1e-4)
        formula, counted = moved[name]["formula"], moved[name]["counted"]
        for collective in ("reduce_scatter", "all_gather"):
            assert counted[collective] == pytest.approx(formula[collective], rel=1e-3)
        assert counted["all_to_all"] == pytest.approx(formula["all_to_all"], rel=0.1)
    assert result["largest_gap_of_losses"] < 1e-4
    total = {name: sum(moved[name]["counted"].values()) for name in expert_parallel.WAYS}
    assert total["across"] < total["replicated"] < total["zero3"]
    peaks = result["peak_bytes_of_rank_0_in_a_whole_step"]
    assert peaks["across"] < peaks["replicated"]
    assert abs(peaks["across and zero3"] / peaks["zero3"] - 1) < 0.1
