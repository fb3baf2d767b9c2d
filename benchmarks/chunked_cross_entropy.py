"""What does the head's loss in blocks of rows save? Memory and time beside F.cross_entropy over all logits.

Forward and backward of the head and its loss, both ways, interleaved, median of the rounds, for the laptop
profile's model and for GPT-2's head; the peak of memory above the inputs is measured in a process of its own
for each way. On a GPU under bfloat16 autocast, on a CPU in float32 on one thread.

    python -m benchmarks.chunked_cross_entropy          (a minute on a laptop; with a GPU, on the GPU)
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.result_file import write_result
from gpt.kernels.chunked_cross_entropy import chunked_cross_entropy

IGNORE = -100
SHAPES = {
    "laptop": {"N": 16 * 256, "C": 128, "V": 2048},
    "gpt2": {"N": 1024, "C": 768, "V": 50304},
    "gpt2, 32 x 1024": {"N": 32 * 1024, "C": 768, "V": 50304},
}
"""Rows, width, vocabulary; the last on a GPU alone."""


def whole(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the loss as the model computes it today."""
    return F.cross_entropy(F.linear(hidden, weight).float(), targets, ignore_index=IGNORE)


def blocks(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the loss in blocks of rows."""
    return chunked_cross_entropy(hidden, weight, targets, ignore=IGNORE)


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"whole": whole, "blocks": blocks}


def inputs(shape: dict[str, int], device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden states, a head and targets."""
    g = torch.Generator().manual_seed(1)
    hidden = torch.randn(shape["N"], shape["C"], generator=g).to(device).requires_grad_()
    weight = (0.02 * torch.randn(shape["V"], shape["C"], generator=g)).to(device).requires_grad_()
    return hidden, weight, torch.randint(0, shape["V"], (shape["N"],), generator=g).to(device)


def step(way: str, tensors: tuple[Tensor, Tensor, Tensor], device: str) -> tuple[float, list[Tensor]]:
    """Run both directions; return the seconds, the loss and the gradients."""
    started = time.perf_counter()
    with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
        loss = WAYS[way](*tensors)
    gradients = torch.autograd.grad(loss, tensors[:2])
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, [loss.detach(), *gradients]


def peak_mib(way: str, shape: dict[str, int], device: str) -> float:
    """Return how much memory one step needs above its inputs; for a process that did nothing else."""
    tensors = inputs(shape, device)
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        step(way, tensors, device)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    small = {name: min(size, 64) for name, size in shape.items()}
    step(way, inputs(small, device), device)  # what libraries allocate once
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark begins anew here
    before = high_water_kib()
    step(way, tensors, device)
    return (high_water_kib() - before) / 2**10


def high_water_kib() -> int:
    """Return the largest resident memory of this process so far."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def measured(name: str, rounds: int, device: str) -> dict[str, Any]:
    """Return times, peaks and how far the two ways are apart for one shape."""
    shape = SHAPES[name]
    tensors = inputs(shape, device)
    results = {way: step(way, tensors, device)[1] for way in WAYS}
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            times[way].append(step(way, tensors, device)[0])
    row: dict[str, Any] = {"shape": shape}
    for way in WAYS:
        child = [sys.executable, "-m", "benchmarks.chunked_cross_entropy", "--peak", way, name, device]
        peak = float(subprocess.run(child, capture_output=True, text=True, check=True).stdout)
        row[way] = {"ms": round(1000 * statistics.median(times[way]), 2), "peak_mib": round(peak, 1)}
    row["time_ratio"] = round(row["blocks"]["ms"] / row["whole"]["ms"], 3)
    row["memory_ratio"] = round(row["blocks"]["peak_mib"] / row["whole"]["peak_mib"], 3)
    row["largest_difference"] = {
        key: float(f"{(a - b).abs().max() / b.abs().max():.2g}")
        for key, a, b in zip(("loss", "hidden", "weight"), results["blocks"], results["whole"], strict=True)
    }
    return row


def main() -> None:
    """Measure every shape that this machine can hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peak", nargs=3, metavar=("WAY", "SHAPE", "DEVICE"), help="for its own processes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        way, name, device = arguments.peak
        print(peak_mib(way, SHAPES[name], device))
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    names = [name for name, shape in SHAPES.items() if device == "cuda" or shape["N"] <= 4096]
    rows = {name: measured(name, arguments.rounds, device) for name in names}
    write_result("chunked_cross_entropy", {"seed": 1, "rounds": arguments.rounds, "device": device, **rows})


if __name__ == "__main__":
    main()
