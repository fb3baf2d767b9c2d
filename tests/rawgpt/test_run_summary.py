"""`rawgpt summary` on the results of the tiny run of tests/report."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpt.model.config import ModelConfig
from gpt.report.results import gather
from gpt.tokenizer.tokenizer import Tokenizer
from rawgpt.main import run
from tests.report.tiny_run import CONFIG, TAGS, write_run


@pytest.fixture
def results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modern: ModelConfig, tokenizer: Tokenizer
) -> dict[str, Any]:
    """Results of the tiny run; the working directory has none yet."""
    folders = write_run(tmp_path / "run", modern, tokenizer)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    return gather(folders, tmp_path / "run/dvc.yaml", CONFIG, tags=TAGS)


def save(results: dict[str, Any]) -> None:
    Path("reports/results.json").write_text(json.dumps(results))
    Path("reports/report.html").write_text("<html>")


def test_figures_sample_times_and_path(
    results: dict[str, Any], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards: a line that wraps, a figure without its error, an absence shown as 0, a time left out."""
    monkeypatch.setenv("COLUMNS", "200")
    save(results)
    assert run(["summary"]) == 0
    out = capfd.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split())
    assert out.startswith("pretrain, seed 6:\nShall I")
    for figure in ("3.250 ±0.031", "3.750 ±0.031", "421 windows", "28,864", "2.125", "absent", "$0.1000"):
        assert figure in words, figure
    assert "pretrain 100.0 s" in words
    assert "all 230.0 s $0.2300" in words
    assert "logs loss: on synthetic logs. hellaswag absent: the set hellaswag_val was not fetched." in words
    assert out.endswith("report: reports/report.html\n")


def test_what_a_model_wrote_commands_no_terminal(
    results: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards: an escape sequence or rich's [markup] in a sample that is obeyed; a sample of pages."""
    results["samples"][0]["text"] = "\x1b[2J[bold]x[/bold]" + " and so on" * 200
    save(results)
    assert run(["summary"]) == 0
    out = capfd.readouterr().out
    assert "\x1b" not in out
    assert "[bold]x[/bold]" in out
    assert out.count("and so on") < 40


def test_without_scores_or_models(results: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    """Guards: a traceback at the very end of `make repro`."""
    save(results | {"scores": {"absent": "there is no stage evaluate"}, "models": [], "samples": []})
    assert run(["summary"]) == 0
    out = capfd.readouterr().out
    assert "no scores: there is no stage evaluate" in out
    assert "no sample: no model has been trained" in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "reports/results.json: not made yet; run `dvc repro`"),
        ("{", "reports/results.json: damaged; run `dvc repro -f report`"),
        ("[]", "format None, 'rawgpt-results-1' is read"),
    ],
)
def test_no_results_is_one_line_and_exit_1(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    text: str | None,
    message: str,
) -> None:
    """Guards: a user who is not told what to type."""
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("reports").mkdir()
        Path("reports/results.json").write_text(text)
    assert run(["summary"]) == 1
    err = capfd.readouterr().err
    assert message in err
    assert err.count("\n") == 1
