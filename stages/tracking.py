"""Records stages in MLflow: the only file that imports mlflow.

A stage's process only appends to a journal (tracking_journal.py); a child of it, `python -m
stages.tracking_upload`, sends the journal in batches. So a store that is slow, locked or dead cannot slow or
stop a training step; what did not arrive stays under mlflow/spill/ and is sent when the next stage
opens. Sending a record twice adds nothing: MLflow keys a metric by (run, name, step, time, value).

One parent run is a pipeline (same params.yaml and code, or the same DVC experiment); its nested
runs are the stages. A stage that was killed goes on in the run that it had.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt.train.metrics import MetricSink
from stages.tracking_journal import (
    JOURNAL,
    JournalSink,
    NullSink,
    pipeline_of,
    tags_of,
    warn,
)

EXPERIMENT = "rawgpt"
CLOSE_LIMIT_S = 60.0
KILLED_LIMIT_S = 5.0
"""A stage that was told to stop has ten seconds in all."""
MAX_METRICS, MAX_PARAMS, MAX_VALUE = 1000, 100, 6000  # MLflow's caps
READ_BYTES = 1 << 18
EXIT_KEPT = 3

_current: JournalSink | None = None
_uploader: subprocess.Popen[bytes] | None = None


def open_stage_run(label: str, params: Mapping[str, object]) -> MetricSink:
    """Begin the record of a stage, in the pipeline of the working directory; return at once."""
    global _current, _uploader
    if os.environ.get("RAWGPT_TRACKING", "").lower() == "off":
        return NullSink()
    workspace = Path.cwd()
    root = Path(os.environ.get("DVC_ROOT", workspace)).resolve()  # queued experiments: the main one
    header = {
        "label": label,
        "params": dict(params),
        "uri": os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root}/mlflow/mlflow.db",
        "artifacts": (root / "mlflow/artifacts").as_uri(),
        "tags": tags_of(workspace),
        "pipeline": pipeline_of(workspace),
    }
    folder = root / "mlflow/spill" / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}"
    try:
        sink = JournalSink(folder, header)
        _uploader = start_uploader(folder)
    except OSError as error:
        warn(f"{error}; this run is not recorded")
        return NullSink()
    _current = sink
    return sink


def start_uploader(folder: Path) -> subprocess.Popen[bytes]:
    """Start the process that takes a journal of this process to MLflow."""
    return subprocess.Popen(
        [sys.executable, "-m", "stages.tracking_upload", str(folder), str(os.getpid())],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def close_stage_run(sink: MetricSink, status: str) -> None:
    """End the record of a stage (FINISHED, FAILED or KILLED); wait for its delivery, within limits."""
    global _current, _uploader
    if isinstance(sink, JournalSink):
        sink.append({"end": status})
        assert _uploader is not None
        try:
            code = _uploader.wait(KILLED_LIMIT_S if status == "KILLED" else CLOSE_LIMIT_S)
        except subprocess.TimeoutExpired:
            _uploader.kill()
            code = _uploader.wait()
        if code not in (0, EXIT_KEPT):
            warn(f"MLflow did not take all of it; the rest waits in {sink.folder}")
    sink.close()
    _current = _uploader = None


def finish_pipeline(stage_labels: list[str], status: str) -> None:
    """Mark on the parent which stages ran and which were unchanged; the last stage calls this."""
    if _current is not None:
        _current.append({"finish": stage_labels, "status": status})


def log_artifact(sink: MetricSink, path: Path) -> None:
    """Record a file; it is copied now, so it may be moved afterwards. Raises OSError."""
    if isinstance(sink, JournalSink):
        copies = sink.folder / "files" / uuid.uuid4().hex[:8]
        copies.mkdir(parents=True)
        shutil.copy2(path, copies)
        sink.append({"file": (copies / path.name).relative_to(sink.folder).as_posix()})


class Delivery:
    """One journal on its way to MLflow; `progress.json` beside it says how far it came."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        saved = folder / "progress.json"
        progress: dict[str, Any] = json.loads(saved.read_text()) if saved.exists() else {}
        self.offset: int = progress.get("offset", 0)
        self.runs: list[str] | None = progress.get("runs")
        """Ids of the pipeline's run and the stage's; None until they exist."""
        self.has_ended: bool = progress.get("has_ended", False)
        self.started_ms = 0
        self._client: Any = None

    def read(self) -> tuple[list[dict[str, Any]], int]:
        """Return the next whole records and the offset behind them."""
        with (self.folder / JOURNAL).open("rb") as journal:
            journal.seek(self.offset)
            lines = [line for line in journal.readlines(READ_BYTES) if line.endswith(b"\n")]
        return [json.loads(line) for line in lines], self.offset + sum(map(len, lines))

    def send(self, records: list[dict[str, Any]], offset: int, extra: dict[str, float]) -> None:
        """Send records, and `extra` metrics of this moment. Raises what MLflow raises."""
        from mlflow.entities import Metric

        if self._client is None or self.runs is None:
            self._open()
        assert self.runs is not None
        now_ms = time.time_ns() // 1_000_000
        seconds = (now_ms - self.started_ms) // 1000
        metrics = [Metric(name, value, now_ms, seconds) for name, value in extra.items()]
        for record in records:
            for name, value in record.get("metrics", {}).items():
                metrics.append(Metric(_key(name), float(value), record["t"], int(record["step"])))
        for start in range(0, len(metrics), MAX_METRICS):
            self._client.log_batch(self.runs[1], metrics=metrics[start : start + MAX_METRICS])
        for record in records:
            self._send_other(record)
        self.offset = offset
        self._save()

    def _save(self) -> None:
        progress = {"offset": self.offset, "runs": self.runs, "has_ended": self.has_ended}
        fresh = self.folder / "progress.json.tmp"
        fresh.write_text(json.dumps(progress))
        fresh.replace(self.folder / "progress.json")

    def end(self, status: str, end_ms: int) -> None:
        """End the stage's run, and with it the pipeline's until another stage begins."""
        if self._client is None:
            self._open()
        assert self.runs is not None
        parent, run = self.runs
        self._client.set_terminated(run, status, end_ms)
        declared = self._client.get_run(parent).data.tags.get("pipeline.status", "RUNNING")
        if status == "FINISHED" and declared != "RUNNING":
            status = declared
        self._client.set_terminated(parent, status, end_ms)
        self.has_ended = True

    def _open(self) -> None:
        """Find or create the pipeline's run and the stage's."""
        from mlflow.tracking import MlflowClient

        with (self.folder / JOURNAL).open("rb") as journal:
            first = json.loads(journal.readline())
        header = first["open"]
        if header["uri"].startswith("sqlite:///"):
            Path(header["uri"].removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self._client = client = MlflowClient(tracking_uri=header["uri"])
        found = client.get_experiment_by_name(EXPERIMENT)
        place = header["artifacts"] if header["uri"].startswith("sqlite:") else None
        experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, place)
        if self.runs is not None:
            return
        pipeline, label = header["pipeline"], header["label"]
        which = f"tags.pipeline_key = '{pipeline['key']}'"
        tags = {"pipeline_key": pipeline["key"], **header["tags"]}
        parents = client.search_runs([experiment], which, max_results=1)
        parent = (
            parents[0]
            if parents
            else client.create_run(experiment, first["t"], tags, run_name=pipeline["name"])
        )
        parent_id = parent.info.run_id
        self._log_params(parent_id, pipeline["params"])
        client.set_tag(parent_id, "pipeline.status", "RUNNING")
        client.update_run(parent_id, status="RUNNING")
        which = f"tags.`mlflow.parentRunId` = '{parent_id}' and tags.stage = '{label}'"
        texts = {name: _text(value) for name, value in header["params"].items()}
        run = next(
            (
                run
                for run in client.search_runs([experiment], which)
                if run.info.status != "FINISHED"
                and all(run.data.params.get(name, text) == text for name, text in texts.items())
            ),
            None,
        )
        if run is None:
            tags = {"mlflow.parentRunId": parent_id, "stage": label, **header["tags"]}
            run = client.create_run(experiment, first["t"], tags, run_name=label)
        client.update_run(run.info.run_id, status="RUNNING")
        self._log_params(run.info.run_id, header["params"])
        self.started_ms = run.info.start_time
        self.runs = [parent_id, run.info.run_id]
        self._save()

    def _send_other(self, record: dict[str, Any]) -> None:
        """Send what is not a metric."""
        from mlflow.exceptions import MlflowException

        try:
            self._send_one(record)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            warn(f"MLflow refuses a record for good: {error.message}")

    def _send_one(self, record: dict[str, Any]) -> None:
        assert self.runs is not None
        parent, run = self.runs
        if "params" in record:
            self._log_params(run, record["params"])
        elif "text" in record:
            self._client.log_text(run, record["text"], record["name"])
        elif "file" in record:
            self._client.log_artifact(run, str(self.folder / record["file"]))
        elif "finish" in record:
            experiment = self._client.get_run(parent).info.experiment_id
            children = f"tags.`mlflow.parentRunId` = '{parent}'"
            ran = {r.data.tags.get("stage") for r in self._client.search_runs([experiment], children)}
            for label in record["finish"]:
                state = "ran" if label in ran else "skipped (unchanged)"
                self._client.set_tag(parent, f"stage.{_key(label)}", state)
            self._client.set_tag(parent, "pipeline.status", record["status"])
        elif "end" in record:
            self.end(record["end"], record["t"])

    def _log_params(self, run_id: str, params: dict[str, Any]) -> None:
        """Log params that the run lacks; a changed one, which MLflow refuses, becomes a tag."""
        from mlflow.entities import Param

        known = self._client.get_run(run_id).data.params
        texts = {_key(name): _text(value) for name, value in params.items()}
        fresh = [Param(name, text) for name, text in texts.items() if name not in known]
        for start in range(0, len(fresh), MAX_PARAMS):
            self._client.log_batch(run_id, params=fresh[start : start + MAX_PARAMS])
        for name, text in texts.items():
            if known.get(name, text) != text:
                self._client.set_tag(run_id, f"changed.{name}", text)


def _key(name: str) -> str:
    """Replace what MLflow refuses in a name."""
    return re.sub(r"[^\w\-. :/]", "_", str(name))[:250]


def _text(value: object) -> str:
    return str(value)[:MAX_VALUE]
