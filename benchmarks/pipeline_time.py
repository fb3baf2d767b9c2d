"""How long is the pipeline on a fresh clone, how much memory, and how long when nothing changed?

Clones HEAD into a temporary folder (set-up not counted: this environment is used), runs `dvc repro` there
and samples the resident memory of its whole process group, then runs it again. Ten minutes on 2 cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.result_file import write_result

POLL_S = 0.5


def timed(command: list[str], folder: Path) -> tuple[float, float, str]:
    """Run a command; return seconds, peak GiB of it and its children, and its output."""
    binaries = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    log = folder / "run.log"
    started, peak = time.monotonic(), 0
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        while process.poll() is None:
            total = 0
            try:
                family = psutil.Process(process.pid)
                for member in (family, *family.children(recursive=True)):
                    total += member.memory_info().rss
            except psutil.NoSuchProcess:
                pass  # one ended between listing and asking
            peak = max(peak, total)
            time.sleep(POLL_S)
    text = log.read_text()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{text[-2000:]}")
    return time.monotonic() - started, peak / 2**30, text


def main() -> None:
    """Measure and write the result."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "clone"
        subprocess.run(["git", "clone", "-q", ".", str(folder)], check=True)
        seconds, peak, _ = timed(["dvc", "repro"], folder)
        again, _, text = timed(["dvc", "repro"], folder)
        stages = {
            str(path.parent.relative_to(folder)): json.loads(path.read_text())["time_s"]
            for root in ("data", "models", "reports")
            for path in sorted((folder / root).rglob("metrics.json"))
            if ".resume" not in path.parts and "time_s" in path.read_text()
        }
    write_result(
        "pipeline_time",
        {
            "repro_s": round(seconds, 1),
            "repro_peak_gib": round(peak, 2),
            "second_repro_s": round(again, 1),
            "second_repro_stages_run": text.count("Running stage"),
            "inside_stages_s": stages,
        },
    )


if __name__ == "__main__":
    main()
