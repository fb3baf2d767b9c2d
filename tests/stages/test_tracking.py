"""stages/tracking.py with MLflow's own sqlite store in a temporary folder."""

import importlib.metadata
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from stages import tracking, tracking_upload
from stages.tracking_journal import NullSink

REPO = Path(__file__).parents[2]
KILLED = """\
import os, sys
from stages import tracking
sink = tracking.open_stage_run("pretrain", {"pretrain.lr": 0.5})
for step in range(100):
    sink.log(step, {"loss": step / 3})
print("logged", flush=True)
if sys.argv[1] == "wait":
    import time; time.sleep(60)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty repository with params."""
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI", "RAWGPT_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "params.yaml").write_text("pretrain: {lr: 0.5, dim: 8}\nfetch: {n: 1}\n")
    monkeypatch.setattr(tracking, "CLOSE_LIMIT_S", 240.0)  # a crowded test machine is slow
    monkeypatch.chdir(tmp_path)
    return tmp_path


class InProcess:
    """Stands in for the uploader's process: sends the journals when it is waited for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def wait(self, limit_s: float) -> int:
        tracking_upload.replay_others(self.folder.parent, self.folder)
        assert tracking_upload.replay(self.folder)
        shutil.rmtree(self.folder)
        return 0


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an sqlite file with MLflow's tables, made once."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def in_process(root: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send without another process, to an empty store."""
    shutil.copytree(empty_store.parent, root / "mlflow")
    monkeypatch.setattr(tracking, "start_uploader", InProcess)


def _rows(root: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(root / "mlflow/mlflow.db") as database:
        return database.execute(query).fetchall()


def _metrics(root: Path) -> list[tuple[object, ...]]:
    query = "select key, step, value from metrics where key not like 'system.%' order by key, step"
    return _rows(root, query)


def _spilled(root: Path) -> list[Path]:
    return sorted((root / "mlflow/spill").iterdir())


def test_a_pipeline_of_two_stages(root: Path, empty_store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Guards against lost metrics (10,000), params, texts, files, parents, and marks of stages."""
    shutil.copytree(empty_store.parent, root / "mlflow")
    sink = tracking.open_stage_run("fetch", {"fetch.n": 1})
    sink.log(0, {"final.bytes": 7})
    tracking.close_stage_run(sink, "FINISHED")
    sink = tracking.open_stage_run("pretrain", {"pretrain.lr": 0.5, "pretrain.long": "x" * 9000})
    for step in range(500):
        sink.log(step, {f"m{index:02}": step + index / 32 for index in range(20)})
    sink.log_config({f"pretrain.many.{index}": index for index in range(150)})
    sink.log_text("samples/step-1.txt", "नमस्ते")
    (root / "report.html").write_text("<p>")
    tracking.log_artifact(sink, root / "report.html")
    (root / "report.html").unlink()
    tracking.finish_pipeline(["fetch", "pretrain", "scale-moe"], "FINISHED")
    tracking.close_stage_run(sink, "FINISHED")
    assert capfd.readouterr() == ("", "")
    assert _spilled(root) == []
    expected = [(f"m{index:02}", step, step + index / 32) for index in range(20) for step in range(500)]
    assert _metrics(root) == [("final.bytes", 0, 7.0), *expected]
    runs = dict(_rows(root, "select name, run_uuid from runs where status = 'FINISHED'"))
    assert len(runs) == 3
    (parent,) = [run for name, run in runs.items() if str(name).startswith("nogit-")]
    tags = {(run, key): value for run, key, value in _rows(root, "select run_uuid,key,value from tags")}
    for label in ("fetch", "pretrain"):
        assert tags[runs[label], "mlflow.parentRunId"] == parent
        assert tags[runs[label], "stage"] == label
        assert tags[parent, f"stage.{label}"] == "ran"
    assert tags[parent, "stage.scale-moe"] == "skipped (unchanged)"
    assert tags[parent, "pipeline.status"] == "FINISHED"
    params = {(run, key): v for run, key, v in _rows(root, "select run_uuid,key,value from params")}
    assert params[parent, "pretrain.dim"] == "8"
    assert params[runs["pretrain"], "pretrain.lr"] == "0.5"
    assert params[runs["pretrain"], "pretrain.many.149"] == "149"
    assert params[runs["pretrain"], "pretrain.long"] == "x" * 6000
    artifacts = root / "mlflow/artifacts" / str(runs["pretrain"]) / "artifacts"
    assert (artifacts / "samples/step-1.txt").read_text() == "नमस्ते"
    assert (artifacts / "report.html").read_text() == "<p>"
    assert _rows(root, "select count(*) from metrics where key = 'system.memory_percent'")


def _run_killed(root: Path, how: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, how],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "logged\n"
    return child


def _end_group(child: subprocess.Popen[str]) -> None:
    """Wait for a child that kills itself, then kill what is left of its process group."""
    child.wait()
    for process in psutil.process_iter():
        with suppress(ProcessLookupError):
            if os.getpgid(process.pid) == child.pid:
                process.kill()
                process.wait(60)


def _stage(label: str, lr: float, status: str, **metrics: float) -> None:
    sink = tracking.open_stage_run(label, {f"{label}.lr": lr})
    if metrics:
        sink.log(100, metrics)
    tracking.close_stage_run(sink, status)


def test_a_killed_stage_goes_on_in_its_own_run(
    root: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a second run per restart, lost metrics, and duplicates after a replay."""
    for _ in range(2):  # two kills, each after the same hundred steps
        _end_group(_run_killed(root, "now"))  # its uploader may hold the lock of what the first one left
    spill = root / "mlflow/spill"
    shutil.copytree(spill, root / "again")
    shutil.copy(empty_store, root / "mlflow/mlflow.db")
    monkeypatch.setattr(tracking, "start_uploader", InProcess)
    _stage("pretrain", 0.5, "FAILED")
    (first,) = _rows(root, "select run_uuid, status from runs where name = 'pretrain'")
    assert first[1] == "FAILED"
    shutil.copytree(root / "again", spill, dirs_exist_ok=True)  # the worst case: all sent twice
    _stage("pretrain", 0.5, "FINISHED", loss=9.0)
    assert _spilled(root) == []
    runs = _rows(root, "select run_uuid, status from runs where name = 'pretrain'")
    assert runs == [(first[0], "FINISHED")]
    times = _rows(root, "select step, count(*) from metrics where key = 'loss' group by step")
    assert times == [*((step, 2) for step in range(100)), (100, 1)]


@pytest.mark.slow
def test_a_stage_killed_while_it_is_followed_goes_on_in_its_own_run(root: Path) -> None:
    """Guards against the same with the uploader at work, and against an uploader left behind."""
    child = _run_killed(root, "wait")
    deadline = time.monotonic() + 90
    count = 0
    while time.monotonic() < deadline and count < 100:
        time.sleep(0.2)
        try:
            ((count,),) = _rows(root, "select count(*) from metrics where key = 'loss'")
        except sqlite3.OperationalError:
            continue  # the store is being made
    assert count == 100
    (first,) = _rows(root, "select run_uuid, status from runs where name = 'pretrain'")
    assert first[1] == "RUNNING"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    time.sleep(3)
    assert [p for p in psutil.process_iter(["cmdline"]) if str(root) in str(p.info)] == []
    _stage("pretrain", 0.5, "FINISHED", loss=9.0)
    runs = _rows(root, "select run_uuid, status from runs where name = 'pretrain'")
    assert runs == [(first[0], "FINISHED")]
    assert _rows(root, "select count(*) from metrics where key = 'loss'") == [(101,)]


@pytest.mark.usefixtures("in_process")
def test_which_runs_are_reused(root: Path) -> None:
    """Guards against a repetition that overwrites a finished run, or mixes params in one run."""
    for lr, status in ((0.5, "FINISHED"), (0.5, "FAILED"), (0.25, "FAILED"), (0.5, "FINISHED")):
        _stage("pretrain", lr, status)
    query = """select p.value, r.status from runs r join params p on r.run_uuid = p.run_uuid
               where r.name = 'pretrain' order by p.value, r.start_time"""
    assert _rows(root, query) == [("0.25", "FAILED"), ("0.5", "FINISHED"), ("0.5", "FINISHED")]


@pytest.mark.usefixtures("in_process")
def test_other_dials_are_another_pipeline(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a comparison of parents that shows nothing, and runs of a parent apart."""
    _stage("fetch", 1, "FINISHED")
    (root / "params.yaml").write_text("pretrain: {lr: 0.25, dim: 8}\nfetch: {n: 1}\n")
    _stage("fetch", 1, "FINISHED")
    _stage("pretrain", 1, "FAILED")
    query = """select p.value, r.status, count(c.run_uuid) from runs r
               join params p on p.run_uuid = r.run_uuid and p.key = 'pretrain.dim'
               join tags t on t.value = r.run_uuid and t.key = 'mlflow.parentRunId'
               join runs c on c.run_uuid = t.run_uuid group by r.run_uuid order by r.start_time"""
    assert _rows(root, query) == [("8", "FINISHED", 1), ("8", "FAILED", 2)]


def test_a_dead_store_costs_one_warning_and_nothing_is_lost(
    root: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guards against a store that slows, ends or silences a training run."""
    broken = root / "mlflow"
    broken.mkdir()
    (broken / "mlflow.db").write_text("this is no database")
    started = time.monotonic()
    sink = tracking.open_stage_run("pretrain", {"pretrain.lr": 0.5})
    for step in range(300):
        sink.log(step, {"loss": step / 3})
    assert time.monotonic() - started < 1.0
    tracking.close_stage_run(sink, "FINISHED")
    warned = capfd.readouterr().err.strip().splitlines()
    assert len(warned) == 1
    assert warned[0].startswith("tracking: no answer from MLflow (")
    assert str(root / "mlflow/spill") in warned[0]
    shutil.copy(empty_store, broken / "mlflow.db")
    monkeypatch.setattr(tracking, "start_uploader", InProcess)
    _stage("finetune", 1, "FINISHED")
    assert _spilled(root) == []
    assert _metrics(root) == [("loss", step, step / 3) for step in range(300)]
    runs = dict(_rows(root, "select name, status from runs where name in ('pretrain', 'finetune')"))
    assert runs == {"pretrain": "FINISHED", "finetune": "FINISHED"}


def test_off_and_not_installed(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against the folder mlflow/ passing for the package, and a test that writes runs."""
    monkeypatch.setenv("RAWGPT_TRACKING", "off")
    sink = tracking.open_stage_run("pretrain", {})
    assert isinstance(sink, NullSink)
    tracking.finish_pipeline(["pretrain"], "FINISHED")
    tracking.log_artifact(sink, root / "absent")
    tracking.close_stage_run(sink, "FINISHED")
    assert not (root / "mlflow").exists()

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    monkeypatch.setattr(os, "nice", lambda increment: 0)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    code = tracking_upload.main([str(root / "mlflow/spill/s"), str(os.getppid())])
    assert code == tracking.EXIT_KEPT
    assert "mlflow is not installed (`make setup`)" in capsys.readouterr().err


@pytest.mark.usefixtures("in_process")
def test_an_end_that_fails_is_sent_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a run that stays RUNNING, or reads KILLED, as its last record met a lock."""
    from mlflow.tracking import MlflowClient

    real = MlflowClient.set_terminated
    monkeypatch.setattr(InProcess, "wait", lambda self, limit_s: tracking.EXIT_KEPT)
    _stage("pretrain", 1, "FINISHED", loss=1.0)
    (folder,) = _spilled(root)

    def locked(*ignored: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(MlflowClient, "set_terminated", locked)
    assert not tracking_upload.replay(folder)
    monkeypatch.setattr(MlflowClient, "set_terminated", real)
    assert tracking_upload.replay(folder)
    assert tracking_upload.replay(folder)  # ended, but killed before its folder was removed
    assert {status for (status,) in _rows(root, "select status from runs")} == {"FINISHED"}
