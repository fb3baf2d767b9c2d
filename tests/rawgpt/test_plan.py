"""The plan against DVC itself on a tiny pipeline, and its rules by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rawgpt.main import run
from rawgpt.plan import planned

GRAPH: dict[str, set[str]] = {"a": set(), "b": {"a"}, "c": {"b"}, "d": set()}
PIPELINE = """
stages:
  a: {cmd: cp in a.txt, deps: [in], outs: [a.txt]}
  b:
    cmd: 'cp a.txt b.txt && echo "{\\"time_s\\": 7.5}" > metrics.json'
    deps: [a.txt]
    params: [x]
    outs: [b.txt]
    metrics: [{metrics.json: {cache: false}}]
  c: {cmd: cp b.txt c.txt, deps: [b.txt], outs: [c.txt]}
"""


def test_stages_behind_a_changed_one_are_in_the_plan(tmp_path: Path) -> None:
    """`dvc repro --dry` says c is up to date though b, in front of it, runs."""
    status = {
        "b": ["changed command", {"changed deps": {"params.yaml": {"x": "modified"}, "gpt": "modified"}}]
    }
    lock = {"a": {}, "b": {"outs": [{"path": "metrics.json"}]}, "c": {}, "d": {}}
    (tmp_path / "metrics.json").write_text('{"time_s": 7.5}')
    plan = planned(status, GRAPH, lock, tmp_path)
    assert [(s.stage, s.is_certain, s.last_time_s) for s in plan] == [("b", True, 7.5), ("c", False, None)]
    assert plan[0].why == "changed command; modified: params.yaml:x, gpt"
    assert plan[1].why == "if b gives something new"


def test_a_stage_that_never_ran_says_so(tmp_path: Path) -> None:
    """Twenty `deleted` outputs as the reason."""
    (only,) = planned({"d": [{"changed outs": {"d.txt": "deleted"}}]}, GRAPH, {}, tmp_path)
    assert (only.stage, only.why) == ("d", "never run here")


def test_against_dvc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """DVC's output in another form than it is read; one run of a real pipeline of three stages."""

    def dvc(*args: str) -> None:
        environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
        command = [sys.executable, "-m", "dvc", *args]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)

    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = True\n    analytics = False\n")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "params.yaml").write_text("x: 1\n")
    (tmp_path / "in").write_text("hi\n")
    monkeypatch.chdir(tmp_path)

    def plan() -> list[dict[str, object]]:
        assert run(["plan", "--json"]) == 0
        return json.loads(capfd.readouterr().out)

    dvc("repro", "-q")
    assert plan() == []
    (tmp_path / "params.yaml").write_text("x: 2\n")
    assert plan() == [
        {"stage": "b", "why": "modified: params.yaml:x", "is_certain": True, "last_time_s": 7.5},
        {"stage": "c", "why": "if b gives something new", "is_certain": False, "last_time_s": None},
    ]
    (tmp_path / "dvc.yaml").write_text("stages: {a: {outs: [a.txt]}}\n")
    assert run(["plan"]) == 1
    assert capfd.readouterr().err.startswith("rawgpt plan: dvc status: ")


@pytest.mark.parametrize(
    ("stderr", "who"),
    [
        ("WARNING: x\nERROR: '/a/b' is busy, it is being blocked by:\n  (PID 257): dvc repro\n", "PID 257"),
        (
            "ERROR: Unable to acquire lock. Most likely another DVC process is running",
            "another dvc is running",
        ),
    ],
)
def test_a_dvc_that_runs_is_a_passing_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], stderr: str, who: str
) -> None:
    """`plan` during a `repro` blamed on the user, in DVC's paragraph about deleting its lock."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    done = subprocess.CompletedProcess([], 255, "", stderr)
    monkeypatch.setattr("rawgpt.plan.subprocess.run", lambda *args, **kwargs: done)
    assert run(["plan"]) == 75
    err = capfd.readouterr().err
    assert who in err
    assert err.count("\n") == 1
