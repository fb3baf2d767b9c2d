"""The child process of a stage that takes its journal to MLflow: `... FOLDER OWNER_PID`.

It first sends what earlier stages left behind, then follows its owner's journal, and ends with it.
It adds the machine's load to the owner's run. It prints only warnings, on stderr.
"""

import fcntl
import importlib.metadata
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from stages.tracking import EXIT_KEPT, Delivery
from stages.tracking_journal import JOURNAL, gpus, warn

FLUSH_S, POLL_S, RETRY_S, SAMPLE_S = 2.0, 0.1, 2.0, 5.0
FLUSH_METRICS = 500
END_ATTEMPTS = 3
NICENESS = 10
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def follow(folder: Path, owner: int) -> bool:
    """Send a journal while its owner lives; return whether it ended and all of it arrived."""
    try:
        sampler = psutil.Process(owner)
    except psutil.NoSuchProcess:
        return False
    delivery = Delivery(folder)
    sent_s = sampled_s = time.monotonic()
    failures, is_ending, has_warned = 0, False, False
    while os.getppid() == owner:
        now_s = time.monotonic()
        try:
            records, offset = delivery.read()
            is_ending = is_ending or any("end" in record for record in records)
            count = sum(len(record.get("metrics", ())) for record in records)
            is_due = now_s - sent_s >= FLUSH_S or delivery.runs is None
            if records and (is_due or is_ending or count >= FLUSH_METRICS):
                load = {} if now_s - sampled_s < SAMPLE_S else _sample(sampler)
                sampled_s = now_s if load else sampled_s
                delivery.send(records, offset, load)
                sent_s, failures = now_s, 0
                if delivery.has_ended:
                    return True
            elif now_s - sampled_s >= SAMPLE_S:
                sampled_s = now_s
                delivery.send([], delivery.offset, _sample(sampler))
            else:
                time.sleep(POLL_S)
        except Exception as error:  # whatever a store raises: the journal stays and is sent again
            failures += 1
            if not has_warned:
                _warn_kept(folder, error)
            has_warned = True
            if is_ending and failures >= END_ATTEMPTS:
                return False
            time.sleep(POLL_S if is_ending else RETRY_S)
    return False  # the owner was killed: the next stage sends the rest


def replay(folder: Path) -> bool:
    """Send what a dead owner left; return whether all of it arrived."""
    delivery = Delivery(folder)
    try:
        while not delivery.has_ended:
            records, offset = delivery.read()
            if not records and delivery.offset == 0:
                return True  # killed before its first line
            if records:
                delivery.send(records, offset, {})
            else:
                delivery.end("KILLED", time.time_ns() // 1_000_000)
        return True
    except Exception as error:  # as above
        _warn_kept(folder, error)
        return False


def replay_others(spill: Path, own: Path) -> None:
    """Send each journal whose owner is dead: its lock is free."""
    for folder in sorted(path for path in spill.iterdir() if path != own):
        journal = folder / JOURNAL
        if not journal.exists():
            continue
        with journal.open("rb") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if not replay(folder):
                return
            shutil.rmtree(folder)


def main(argv: list[str]) -> int:
    """Replay, then follow; return 0 when all of it arrived, else EXIT_KEPT."""
    folder, owner = Path(argv[0]), int(argv[1])
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the owner's end ends this process, in order
        signal.signal(ignored, signal.SIG_IGN)
    os.nice(NICENESS)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        importlib.metadata.version("mlflow")  # the folder mlflow/ makes `import mlflow` succeed
    except importlib.metadata.PackageNotFoundError:
        warn(f"mlflow is not installed (`make setup`); this run is kept in {folder}")
        return EXIT_KEPT
    replay_others(folder.parent, folder)
    if not follow(folder, owner):
        return EXIT_KEPT
    shutil.rmtree(folder)
    return 0


def _sample(owner: psutil.Process) -> dict[str, float]:
    """Return the load of the machine and of the owner with its children."""
    family = [owner, *owner.children(recursive=True)]
    load = {
        "system.cpu_percent": psutil.cpu_percent(),
        "system.process_cpu_percent": owner.cpu_percent(),
        "system.process_rss_bytes": 0.0,
        "system.memory_percent": psutil.virtual_memory().percent,
    }
    for process in family:
        with suppress(psutil.NoSuchProcess):  # a child may end while it is looked at
            if process.pid != os.getpid():
                load["system.process_rss_bytes"] += process.memory_info().rss
    for index, (_, percent, used_bytes) in enumerate(gpus()):
        load[f"system.gpu_{index}_percent"] = percent
        load[f"system.gpu_{index}_memory_bytes"] = used_bytes
    return load


def _warn_kept(folder: Path, error: Exception) -> None:
    reason = next(iter(str(error).splitlines()), "")[:200]
    warn(f"no answer from MLflow ({type(error).__name__}: {reason}); kept in {folder}, sent later")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
