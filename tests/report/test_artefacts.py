"""gpt/report/artefacts.py."""

from pathlib import Path

import pytest

from gpt.report.artefacts import absent, is_absent, read_curve, read_json


def test_curve_cells(tmp_path: Path) -> None:
    """Guards: a step as 10.0, an empty validation as 0."""
    path = tmp_path / "curves.csv"
    path.write_text("rung,step,loss,val_loss\nbigram,10,3.5,\nblock,20,2,1.25\n")
    assert read_curve(path) == [
        {"rung": "bigram", "step": 10, "loss": 3.5, "val_loss": None},
        {"rung": "block", "step": 20, "loss": 2.0, "val_loss": 1.25},
    ]
    assert read_curve(tmp_path / "none.csv") == []
    path.write_text("step,loss\n10,abc\n")
    with pytest.raises(ValueError, match=r"curves.csv: a cell is not a number"):
        read_curve(path)


def test_missing_is_said_and_damaged_is_refused(tmp_path: Path) -> None:
    """Guards: a damaged file that reads like one that was never made."""
    piece = read_json(tmp_path / "evaluate/scores.json")
    assert is_absent(piece)
    assert piece["absent"] == "scores.json of evaluate is not here; run `dvc repro`"
    assert is_absent(absent("x"))
    assert not is_absent({"absent": "a metric of that name", "value": 1})
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics.json: damaged"):
        read_json(tmp_path / "metrics.json")
