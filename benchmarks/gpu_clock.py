"""How the GPU benchmarks take time: peers in turns, slices long enough, medians; a CPU is for rehearsals."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

SLICE_S = 0.02
"""How long one measurement of one peer lasts, at least."""
Call = Callable[[], Any]


def seconds(call: Call, repeats: int, device: str) -> float:
    """Return the time of one call, out of `repeats` in a row."""
    if device == "cpu":
        started = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - started) / repeats
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    first.record()
    for _ in range(repeats):
        call()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1000 / repeats


def race(calls: Mapping[str, Call], rounds: int, device: str) -> dict[str, dict[str, float]]:
    """Return each peer's median microseconds and their standard error, after a warm-up, taken in turns."""
    repeats = {}
    for name, call in calls.items():
        call()  # compiles, chooses tiles
        repeats[name] = max(1, int(SLICE_S / seconds(call, 2, device))) if device == "cuda" else 1
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(1e6 * seconds(call, repeats[name], device))
    return {
        name: {
            "us": round(statistics.median(each), 2),
            # 1.25 is what the median's error has over the mean's, for normal noise
            "se_us": round(1.25 * statistics.stdev(each) / len(each) ** 0.5, 2),
        }
        for name, each in times.items()
    }


def device_or_exit(device: str, module: str) -> str:
    """Return the device; without the CUDA device that was asked for, say how to rehearse."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            f"no CUDA device; type: TRITON_INTERPRET=1 python -m benchmarks.{module} --device cpu --toy"
        )
    return device
