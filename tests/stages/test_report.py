"""The report stage end to end, on the tiny run of tests/report."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpt.config import to_dict
from gpt.model.config import ModelConfig
from gpt.report.pipeline import read_stages
from gpt.tokenizer.tokenizer import Tokenizer
from stages import report as module
from stages import tracking
from stages.report import FOLDERS, report
from tests.report.tiny_run import CONFIG, write_run
from tests.stages.machine import MACHINE

ROOT = Path(__file__).parents[2]


def test_every_stage_of_the_dag_is_reported() -> None:
    """Guards: a stage that joins the DAG and never appears in the report."""
    labels = [stage.label for stage in read_stages(ROOT / "dvc.yaml")]
    assert set(FOLDERS) == {label.replace("-", "_") for label in labels} - {"report"}


def test_report_end_to_end_twice_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modern: ModelConfig, tokenizer: Tokenizer
) -> None:
    """Guards: a page with a clock in it, a pipeline never finished, an artefact recorded before it exists."""
    monkeypatch.chdir(tmp_path)
    folders = write_run(tmp_path, modern, tokenizer)
    monkeypatch.setattr(module, "FOLDERS", tuple(label.replace("-", "_") for label in folders))
    recorded: list[Any] = []
    monkeypatch.setattr(tracking, "log_artifact", lambda sink, path: recorded.append(path.read_text()))
    monkeypatch.setattr(tracking, "finish_pipeline", lambda labels, status: recorded.append((labels, status)))
    params = {"machine": MACHINE, "report": to_dict(CONFIG)}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    command = ["--out", "reports"]
    for name in ("scale-dense", "align-dpo", "align-ppo", "align-grpo"):  # not in this run
        (folders["pretrain"].parent / name).mkdir()
        command += [f"--{name.replace('-', '_')}", f"models/{name}"]
    for label, folder in folders.items():
        command += [f"--{label.replace('-', '_')}", str(folder.relative_to(tmp_path))]
    command += ["--base", str((folders["pretrain"] / "checkpoint").relative_to(tmp_path))]
    assert report.main(command) == 0
    out = tmp_path / "reports"
    assert {path.name for path in out.iterdir()} == {"report.html", "results.json", "metrics.json"}
    first = {name: (out / name).read_bytes() for name in ("report.html", "results.json")}
    results = json.loads(first["results.json"])
    assert results["run"]["machine.cores"]
    assert "dvc_lock_sha256" not in results["run"]
    assert json.loads((out / "metrics.json").read_text())["pipeline_time_s"] == 230
    labels = [*folders, "report"]
    assert recorded == [first["report.html"].decode(), (labels, "FINISHED")]
    assert report.main(command) == 0
    assert first == {name: (out / name).read_bytes() for name in first}
    assert str(tmp_path) not in first["report.html"].decode() + first["results.json"].decode()


def test_a_missing_folder_is_the_user_s_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards: a traceback where `dvc repro` would have helped."""
    monkeypatch.chdir(tmp_path)
    params = {"machine": MACHINE, "report": to_dict(CONFIG)}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    command = ["--out", "reports"]
    for flag in (*FOLDERS, "base"):
        command += [f"--{flag}", flag]
    assert report.main(command) == 1
    assert "--fetch fetch: no such path; run `dvc repro fetch` first" in capsys.readouterr().err
