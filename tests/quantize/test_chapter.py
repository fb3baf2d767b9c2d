"""docs/chapters/quantization.md prints what the benchmark measured, and nothing else."""

import json
from pathlib import Path

import pytest

from benchmarks.quantization_table import render
from benchmarks.result_file import RESULTS

CHAPTER = Path(__file__).parents[2] / "docs/chapters/quantization.md"
RESULT = RESULTS / "quantization.json"
PEER = RESULTS / "quantization_against_gptqmodel.json"


def tables() -> str:
    text = CHAPTER.read_text(encoding="utf-8")
    return text.split("benchmarks.quantization --table -->")[1].split("<!-- end of tables -->")[0].strip()


def test_the_chapters_tables_are_the_results() -> None:
    """Guards: a number pasted by hand, or a benchmark run again without `--table`.

    Without a result there must be no table at all.
    """
    expected = render(json.loads(RESULT.read_text(encoding="utf-8"))) if RESULT.is_file() else ""
    assert tables() == expected.strip(), "print it again: python -m benchmarks.quantization --table"


def test_the_peers_tables_are_its_result_and_ours_is_no_worse() -> None:
    """Guards: as above; and a GPTQ behind the peer's with the same dials, or behind its goal at 128."""
    text = CHAPTER.read_text(encoding="utf-8").split("<!-- peer tables: ")[1]
    result = json.loads(PEER.read_text(encoding="utf-8"))
    assert text.partition("-->")[2].split("<!-- end of peer tables -->")[0].strip() == render(result)
    for model in result["models"]:
        assert model["gptq_over_nearest"] <= 0.65
        rows = {row["method"]: row for row in model["rows"]}
        ours, theirs = rows["gptq"], rows["GPTQModel, like-ours"]
        noise = (ours["rise_stderr"] ** 2 + theirs["rise_stderr"] ** 2) ** 0.5
        assert ours["rise"] <= theirs["rise"] + 2 * noise


def test_gptq_meets_its_goal() -> None:
    """Guards a chapter that goes on calling act-order with static groups the better way when it is not."""
    if not RESULT.is_file():
        pytest.skip("benchmarks/results/quantization.json was not measured yet")
    models = {model["model"]: model for model in json.loads(RESULT.read_text(encoding="utf-8"))["models"]}
    assert models["smollm2-135m"]["gptq_over_nearest"] <= 0.65


def test_a_row_by_hand() -> None:
    """Guards columns that are shifted, and a share that is printed as a percentage or the other way round."""
    row = {"method": "gptq", "bits": 4, "perplexity": 20.5, "rise": 0.125, "rise_stderr": 0.0125}
    sizes = {"file_bytes": 2**20, "memory_bytes": 2**21, "resident_bytes": 3 * 2**20, "ms_per_token": 1.5}
    first = {**row, **sizes, "method": "float", "tokens": 3072, "windows": 12, "items": 0, "rise": 0.0}
    model = {
        "model": "m",
        "group_size": 64,
        "text": "novels",
        "calibration_tokens": 4096,
        "gptq_over_nearest": 0.5625,
        "rows": [first, row, {"method": "awq", "absent": "no gains"}],
    }
    lines = render({"models": [model]}).split("\n")
    assert lines[-3] == "| float | 4 | 20.500 |  | 1.0 | 2.0 | 3.0 | 1.50 |  |"
    assert lines[-2] == "| gptq | 4 | 20.500 | +12.50 ± 1.25 |  |  |  |  |  |"
    assert lines[-1] == "| awq | absent: no gains | | | | | | | |"
