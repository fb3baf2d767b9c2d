"""stages/tracking_journal.py: what a stage's process writes, and what it never does."""

import fcntl
import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stages import tracking
from stages.tracking_journal import JOURNAL, JournalSink, pipeline_of, tags_of

REPO = Path(__file__).parents[2]


def _records(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]


def test_every_record_is_on_disk_at_once_and_in_order(tmp_path: Path) -> None:
    """Guards against records that a kill -9 loses, or that two threads tear apart."""
    sink = JournalSink(tmp_path / "s", {"label": "x"})

    def write(thread: int) -> None:
        for step in range(200):
            sink.log(step, {"thread": thread, "bad": math.nan})

    threads = [threading.Thread(target=write, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.log_text("samples/1.txt", "नमस्ते")
    header, *records, text = _records(tmp_path / "s")  # not closed: still complete
    assert header["open"] == {"label": "x"}
    assert len(records) == 800
    for index in range(4):
        own = [r["step"] for r in records if r["metrics"]["thread"] == index]
        assert own == list(range(200))
    assert (text["name"], text["text"]) == ("samples/1.txt", "नमस्ते")
    with (tmp_path / "s" / JOURNAL).open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an open journal is nobody else's
    sink.close()


def test_what_cannot_be_written_costs_one_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a metric or a full disk that ends a training run."""
    sink = JournalSink(tmp_path / "s", {})
    sink.log(0, {"loss": "high"})  # type: ignore[dict-item]
    sink.log(0, {"loss": object()})  # type: ignore[dict-item]
    sink.log_text("../../etc/passwd", "x")
    sink.log_text("/etc/passwd", "x")
    sink._file = open("/dev/full", "a")  # noqa: SIM115
    sink.log(1, {"loss": 1.0})
    sink.close()
    assert len(_records(tmp_path / "s")) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("tracking: a record was lost") == 1


def test_a_pipeline_is_its_params_and_code_or_its_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against runs of different dials, or of different code, under one parent."""
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt/model.py").write_text("A = 1\n")
    (tmp_path / "params.yaml").write_text("pretrain:\n  optim: {lr: 0.001}\n  sizes: [1, 2]\n")
    first = pipeline_of(tmp_path)
    assert first["params"] == {"pretrain.optim.lr": 0.001, "pretrain.sizes": [1, 2]}
    assert first == pipeline_of(tmp_path)
    assert first["name"].startswith("nogit-")
    (tmp_path / "gpt/model.py").write_text("A = 2\n")
    code = pipeline_of(tmp_path)
    assert code["key"] != first["key"]
    (tmp_path / "params.yaml").write_text("pretrain:\n  optim: {lr: 0.002}\n")
    assert pipeline_of(tmp_path)["key"] not in (code["key"], first["key"])
    monkeypatch.setenv("DVC_EXP_NAME", "tidy-mole")
    assert pipeline_of(tmp_path)["name"].startswith("tidy-mole-")
    assert pipeline_of(tmp_path)["key"].startswith("tidy-mole-")


def test_tags_name_the_machine_and_the_lock(tmp_path: Path) -> None:
    """Guards against a run that cannot be traced; the lock's hash is that of two known bytes."""
    (tmp_path / "dvc.lock").write_text("a\n")
    tags = tags_of(tmp_path)
    assert tags["dvc_lock_sha256"].startswith("87428fc522803d31")  # printf 'a\n' | sha256sum
    assert tags["git_sha"] == "none"
    assert int(tags["machine.cores"]) >= 1
    assert tags["machine.cpu"]


def test_logging_is_cheap(tmp_path: Path) -> None:
    """Guards against a sink that waits: 20 metrics cost well under 2 % of a 5 ms step's 100 µs."""
    sink = JournalSink(tmp_path / "s", {})
    metrics = {f"m{index}": index / 7 for index in range(20)}
    best_s = math.inf
    for _ in range(20):
        started = time.perf_counter()
        for step in range(50):
            sink.log(step, metrics)
        best_s = min(best_s, (time.perf_counter() - started) / 50)
    sink.close()
    assert best_s < 100e-6


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """Guards against a replay that stops at the line in which the machine lost power."""
    sink = JournalSink(tmp_path / "s", {"label": "x"})
    sink.log(1, {"loss": 2.0})
    with (tmp_path / "s" / JOURNAL).open("a") as journal:
        journal.write('{"step": 2, "metr')
    delivery = tracking.Delivery(tmp_path / "s")
    records, offset = delivery.read()
    assert [next(iter(record)) for record in records] == ["open", "step"]
    delivery.offset = offset
    assert delivery.read() == ([], offset)
    (tmp_path / "s/progress.json").write_text(json.dumps({"offset": offset, "runs": ["p", "r"]}))
    again = tracking.Delivery(tmp_path / "s")
    assert (again.offset, again.runs) == (offset, ["p", "r"])
    sink.close()


def test_a_stages_process_never_imports_mlflow() -> None:
    """Guards against two seconds and 200 MB in every stage."""
    program = "import sys, stages.runner; print([m for m in sys.modules if 'mlflow' in m])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
