"""Where a benchmark writes: benchmarks/results/<name>.json, with the command and the machine."""

import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

OPENMP = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""How OpenMP's threads wait for each other: it moves a small model's speed by a third."""
RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Describe the machine without naming it."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return {
        "cpu": model,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "waiting_threads": {name: os.environ[name] for name in OPENMP if name in os.environ},
    }


def command(name: str) -> str:
    """Return what was typed; of an absolute path the last part only: it is this machine's affair."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["python", "-m", f"benchmarks.{name}", *words])


def write_result(name: str, result: dict[str, Any], *, suffix: str = "") -> None:
    """Write a result of benchmark `name` to <name><suffix>.json and print it."""
    RESULTS.mkdir(exist_ok=True)
    content = {"command": command(name), "machine": machine(), **result}
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (RESULTS / f"{name}{suffix}.json").write_text(text + "\n", encoding="utf-8")
    print(text)
