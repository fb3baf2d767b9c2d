"""gpt/report/results.py: every figure is its source's."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gpt.report.page import render_page
from gpt.report.results import gather
from tests.report.tiny_run import CONFIG, FOLDERS, MEASUREMENT, METHODS, METRICS, SCORES, SOURCES, TAGS


def test_figures_are_the_stages_own(results: dict[str, Any]) -> None:
    """Guards: a number rounded, renamed or swapped on its way to the report."""
    assert [{k: row[k] for k in SCORES[0]} for row in results["scores"]] == SCORES
    assert results["data"]["sources"] == SOURCES
    assert results["enclave"] == MEASUREMENT
    assert results["logs"] == METRICS["logs"]
    methods = [row | {"ms_per_token": ms} for row, ms in zip(METHODS, (2.5, 1.5, None), strict=True)]
    assert results["quantization"] == METRICS["quantize"] | {"dials": None, "methods": methods}
    assert [rung["rung"] for rung in results["ladder"]["rungs"]] == ["bigram", "block"]
    assert results["ladder"]["bigram_one_batch"] == 2.48
    assert results["ladder"]["bigram_full"] == 2.51
    assert [t["stage"] for t in results["training"]] == ["pretrain", "scale-moe", "finetune"]
    assert results["training"][0]["curve"][1]["val_loss"] == 2.75
    assert [row["is_synthetic"] for row in results["scores"]] == [False, True, True, False] * 2


def test_seeds_and_validation_size_come_from_what_ran(results: dict[str, Any]) -> None:
    """Guards: a figure without its seed. 2 batches x 3 samples x 5 tokens = 30 positions."""
    assert results["run"]["seeds"] == {
        "pretrain.train.seed": 11,
        "scale-moe.growth.seed": 2,
        "scale-moe.train.seed": 11,
        "report.seed": 6,
    }
    assert results["training"][0]["validation_positions"] == 30
    assert results["training"][2]["validation_positions"] is None, "DVC recorded nothing of finetune"


def test_cost_is_time_by_price(results: dict[str, Any]) -> None:
    """Guards: minutes priced as hours. $3.60 an hour is $0.001 a second: pretrain's 100 s cost $0.10.

    All: 7.5 + 2.5 + 1 + 20 + 100 + 50 + 3 + 30 + 6 + 9 + 1 = 230 s = $0.23.
    """
    costs = {row["stage"]: row["dollars"] for row in results["stages"]}
    assert list(costs) == list(FOLDERS)
    assert costs["pretrain"] == pytest.approx(0.1)
    assert results["total_time_s"] == pytest.approx(230)
    assert results["total_dollars"] == pytest.approx(0.23)


def test_round_trips_through_json(results: dict[str, Any]) -> None:
    """Guards: a tensor, a tuple or a NaN in results.json."""
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_absent_pieces_are_stated(run_root: Path, tmp_path: Path) -> None:
    """Guards: a report that fails, or keeps silent, because one stage left nothing."""
    shutil.copytree(run_root, tmp_path / "run")
    folders = {label: tmp_path / "run" / path for label, path in FOLDERS.items()}
    (folders["package"] / "image/measurement.json").unlink()
    (folders["evaluate"] / "scores.json").unlink()
    shutil.rmtree(folders["ladder"])
    shutil.rmtree(folders["fetch"])
    (folders["logs"] / "metrics.json").unlink()
    (folders["quantize"] / "metrics.json").unlink()
    for name in ("pretrain", "finetune", "quantize"):
        shutil.rmtree(folders[name] / "checkpoint")
    found = gather(folders, tmp_path / "run/dvc.yaml", CONFIG, tags=TAGS)
    assert found["enclave"] == METRICS["package"]
    assert found["scores"] == {"absent": "scores.json of evaluate is not here; run `dvc repro`"}
    for key in ("ladder", "logs", "quantization", "heatmaps"):
        assert list(found[key]) == ["absent"], key
    assert found["models"] == found["samples"] == []
    times = {row["stage"]: row["time_s"] for row in found["stages"]}
    assert times["fetch"] is None
    assert found["total_time_s"] == pytest.approx(230 - 7.5 - 20 - 3 - 6)
    page = render_page(found)
    assert page.count('class="missing"') >= 6
    assert "no Debian here" in page


def test_a_damaged_artefact_is_refused(run_root: Path, tmp_path: Path) -> None:
    """Guards: a report of a checkpoint whose bytes are not those that were written."""
    shutil.copytree(run_root, tmp_path / "run")
    folders = {label: tmp_path / "run" / path for label, path in FOLDERS.items()}
    weights = folders["pretrain"] / "checkpoint/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"model.safetensors: damaged"):
        gather(folders, tmp_path / "run/dvc.yaml", CONFIG, tags=TAGS)
