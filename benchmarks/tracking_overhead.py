"""What does recording cost a training step? 20 metrics a step, with and without the tracker.

Steps alternate in blocks, so that a busy machine burdens both sides alike:
`python -m benchmarks.tracking_overhead` (10,000 steps a side of 5 ms each: two minutes).
A step is a sleep: it shows waiting for a lock or the interpreter, which a busy loop would hide. It
does not show the CPU that the uploader takes, at low priority, from both sides: `uploader_cpu_s`.
"""

import argparse
import json
import os
import platform
import resource
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from stages import tracking
from stages.tracking_journal import NullSink, tags_of

KEYS, BLOCK = 20, 50
RESULT = Path(__file__).parent / "results/tracking_overhead.json"


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=10_000, help="steps of each side")
    parser.add_argument("--step-ms", type=float, default=5.0)
    args = parser.parse_args()
    log_us: list[float] = []
    machine = {key: value for key, value in tags_of(Path.cwd()).items() if "machine" in key}
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.pop("RAWGPT_TRACKING", None)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_ROOT"] = folder
        sink = tracking.open_stage_run("benchmark", {})
        sides: dict[str, list[float]] = {"without": [], "with": []}
        for start in range(0, args.steps, BLOCK):
            for side, target in (("without", NullSink()), ("with", sink)):
                for step in range(start, min(start + BLOCK, args.steps)):
                    metrics = {f"metric.{index}": step + index / 7 for index in range(KEYS)}
                    began = time.perf_counter()
                    time.sleep(args.step_ms / 1000)
                    logged = time.perf_counter()
                    target.log(step, metrics)
                    if target is sink:
                        log_us.append((time.perf_counter() - logged) * 1e6)
                    sides[side].append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        tracking.close_stage_run(sink, "FINISHED")
        close_s = time.perf_counter() - began
        with sqlite3.connect(Path(folder) / "mlflow/mlflow.db") as database:
            query = "select count(*) from metrics where key like 'metric.%'"
            ((arrived,),) = database.execute(query)
    means = {side: statistics.fmean(values) for side, values in sides.items()}
    result = {
        "command": f"python -m benchmarks.tracking_overhead --steps {args.steps} --step-ms {args.step_ms:g}",
        "machine": machine | {"python": platform.python_version()},
        "steps": args.steps,
        "keys": KEYS,
        "step_ms": {side: round(value, 4) for side, value in means.items()},
        "median_step_ms": {side: round(statistics.median(values), 4) for side, values in sides.items()},
        "overhead_percent": round(100 * (means["with"] / means["without"] - 1), 2),
        "log_us": {
            "median": round(statistics.median(log_us), 1),
            "mean": round(statistics.fmean(log_us), 1),
            "p99": round(statistics.quantiles(log_us, n=100)[-1], 1),
        },
        "uploader_cpu_s": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, 1),
        "close_s": round(close_s, 1),
        "metrics_logged": args.steps * KEYS,
        "metrics_in_store_at_close": arrived,
        "load_average": round(os.getloadavg()[0], 1),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(json.dumps(result, indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
