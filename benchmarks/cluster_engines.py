"""Ray or Dask for many machines? Start, rate, memory, a killed worker, size; beside our local processes.

The same function (`encode_part`) over the same parts of a made-up corpus, two worker processes on this
machine. Every engine runs in a process of its own, interleaved. Memory is the proportional set size of the
whole process tree, with idle workers and at its highest. The kill is a SIGKILL of the process that works on
a part. Engines that cannot be imported are named; `pip install --target .deps dask distributed ray` and
PYTHONPATH=.:.deps bring them. About 3 minutes.
"""

import argparse
import importlib.util
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import distribution, version
from itertools import product
from pathlib import Path
from typing import Any

import psutil

from gpt.corpus.jsonl import write_jsonl
from gpt.dataset.encode_corpus import cut_tasks, encode_part
from gpt.tokenizer.tokenizer import train_tokenizer
from gpt.tokenizer.vocab_file import save_tokenizer
from gpt.workers.config import WorkersConfig
from gpt.workers.map_parts import map_parts

ENGINES = ("local", "dask", "ray")
PACKAGES = {"local": (), "dask": ("dask", "distributed"), "ray": ("ray",)}
WORKERS = 2
SLOW_S = 3.0
"""How long a part lasts that is to be killed."""


def who(_: int) -> int:
    """Return the worker's process id."""
    time.sleep(0.05)
    return os.getpid()


def slow(part: tuple[str, int]) -> int:
    """Note who works on the part, then work long enough to be killed."""
    note, number = part
    if number == 1:
        Path(note).write_text(str(os.getpid()))
    time.sleep(SLOW_S)
    return number


Mapper = Callable[[Callable[[Any], Any], list[Any]], list[Any]]


def local_engine() -> tuple[Mapper, Callable[[], None]]:
    """Our own processes; they live for one call."""
    return lambda f, parts: list(map_parts(f, parts, WorkersConfig(processes=WORKERS))), lambda: None


def dask_engine() -> tuple[Mapper, Callable[[], None]]:
    """A Dask scheduler and workers on this machine, through our own adapter."""
    from distributed import LocalCluster

    from gpt.workers.dask_parts import map_on_cluster

    cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
    address = cluster.scheduler_address
    return lambda f, parts: list(map_on_cluster(f, parts, address)), cluster.close


def ray_engine() -> tuple[Mapper, Callable[[], None]]:
    """A Ray head on this machine; tasks with a bounded window, results in order."""
    import ray

    ray.init(
        num_cpus=WORKERS,
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
        _system_config={"worker_niceness": 0},  # its default is 15: behind everything else that runs
    )

    def run(function: Callable[[Any], Any], parts: list[Any]) -> list[Any]:
        task = ray.remote(function)
        waiting: list[Any] = []
        results = []
        for part in parts:
            waiting.append(task.remote(part))
            if len(waiting) >= 2 * WORKERS:
                results.append(ray.get(waiting.pop(0)))
        return results + ray.get(waiting)

    return run, ray.shutdown


START = {"local": local_engine, "dask": dask_engine, "ray": ray_engine}


class PeakMemory:
    """Samples the memory of this process and all its descendants in a thread."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def now(self) -> float:
        """Return MiB of proportional set size of the tree."""
        total = 0
        me = psutil.Process()
        for process in (me, *me.children(recursive=True)):
            try:
                total += process.memory_full_info().pss
            except psutil.Error:  # it ended meanwhile
                continue
        return total / 2**20

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            self.peak = max(self.peak, self.now())

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def measure(engine: str, folder: Path, part_bytes: int) -> dict[str, Any]:
    """Measure one engine in this process."""
    tasks = cut_tasks(folder, folder / "tokenizer", folder / f"parts-{os.getpid()}", part_bytes)
    with PeakMemory() as memory:
        started = time.perf_counter()
        run, stop = START[engine]()
        run(who, list(range(4 * WORKERS)))
        start_s = time.perf_counter() - started
        idle = memory.now()
        started = time.perf_counter()
        parts = run(encode_part, tasks)
        encode_s = time.perf_counter() - started
        result = {
            "start_s": round(start_s, 2),
            "encode_s": round(encode_s, 2),
            "mb_per_s": round(sum(part.n_bytes for part in parts) / 1e6 / encode_s, 2),
            "idle_mib": round(idle),
            "peak_mib": round(memory.peak),
            "killed_worker": kill_one(run, folder / f"kill-{os.getpid()}"),
        }
        stop()
    return result


def kill_one(run: Mapper, note: Path) -> dict[str, Any]:
    """Kill the worker of part 1 in its middle, once; return what became of the map."""

    def kill() -> None:
        while not note.exists() or not note.read_text():
            time.sleep(0.02)
        os.kill(int(note.read_text()), signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    started = time.perf_counter()
    try:
        outcome = "finished" if run(slow, [(str(note), i) for i in range(3)]) == [0, 1, 2] else "wrong result"
    except Exception as error:  # the outcome is what is measured, whatever it is
        outcome = f"{type(error).__name__}: {str(error).splitlines()[0]}"[:120]
    thread.join()
    return {"outcome": outcome, "seconds": round(time.perf_counter() - started, 1)}


def installed_mib(packages: Sequence[str]) -> float:
    """Return the size of the packages' own files."""
    files = [file.locate() for name in packages for file in distribution(name).files or []]
    return round(sum(Path(str(f)).stat().st_size for f in files if Path(str(f)).is_file()) / 2**20, 1)


def write_corpus(folder: Path, n_bytes: int) -> None:
    """Write documents of made-up words and a tokenizer that was trained on some of them."""
    rng = random.Random(0)
    words = ["".join(rng.choices("aeioubdklmnprst", k=rng.randrange(2, 9))) for _ in range(5000)]
    texts = [" ".join(rng.choices(words, k=1500)) for _ in range(n_bytes // 9000)]
    save_tokenizer(folder / "tokenizer", train_tokenizer(texts[:60], 2048, "gpt2"))
    splits = ["val" if i % 20 == 0 else "train" for i in range(len(texts))]
    write_jsonl(
        folder / "documents.jsonl",
        ({"id": str(i), "text": text, "split": splits[i]} for i, text in enumerate(texts)),
    )


def main() -> None:
    """Measure every engine that can be imported; write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=40.0)
    parser.add_argument("--parts", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("ENGINE", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    part_bytes = round(args.megabytes * 1e6 / args.parts)
    if args.one:
        print(json.dumps(measure(args.one[0], Path(args.one[1]), part_bytes)))
        return
    from benchmarks.result_file import write_result  # imports torch: not into the engines' processes

    rows: dict[str, list[dict[str, Any]]] = {}
    absent = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".engines-") as name:
        write_corpus(Path(name), round(args.megabytes * 1e6))
        for _, engine in product(range(args.repeats), ENGINES):
            if missing := [p for p in PACKAGES[engine] if importlib.util.find_spec(p) is None]:
                absent[engine] = f"{missing[0]} cannot be imported"
                continue
            command = [sys.executable, "-m", "benchmarks.cluster_engines", "--one", engine, name]
            sizes = ["--megabytes", str(args.megabytes), "--parts", str(args.parts)]
            done = subprocess.run([*command, *sizes], stdout=subprocess.PIPE, text=True, check=True)
            rows.setdefault(engine, []).append(json.loads(done.stdout.splitlines()[-1]))
            print(engine, rows[engine][-1], file=sys.stderr, flush=True)
    medians = {
        engine: {
            key: statistics.median(row[key] for row in runs) for key in runs[0] if key != "killed_worker"
        }
        | {
            "killed_worker": [row["killed_worker"] for row in runs],
            "versions": {package: version(package) for package in PACKAGES[engine]},
            "own_files_mib": installed_mib(PACKAGES[engine]),
        }
        for engine, runs in rows.items()
    }
    sizes_used = {"megabytes": args.megabytes, "parts": args.parts, "workers": WORKERS, "part_s": SLOW_S}
    used = {"seed": 0, "repeats": args.repeats, **sizes_used}
    suffix = f"_{args.parts}_parts"
    write_result("cluster_engines", {**used, "engines": medians, "absent": absent}, suffix=suffix)


if __name__ == "__main__":
    main()
