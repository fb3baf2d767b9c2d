"""What does the head's loss in blocks of rows save? Memory and time beside F.cross_entropy over all logits.

Forward and backward of the head and its loss, every way (on a GPU also with the fused Triton kernel), in
turns, median of the rounds, for the laptop profile's model and for GPT-2's head; then the whole training
step with the dial train.head_loss: forward, backward, AdamW, for the laptop's model and for one with GPT-2's
vocabulary. The peak of memory above the inputs, or the model, is measured in a process of its own for each
way. On a GPU under bfloat16 autocast, on a CPU in float32 on one thread.

    python -m benchmarks.chunked_cross_entropy       (two minutes on a laptop; with a GPU, on the GPU)
"""

import argparse
import dataclasses
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
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.train.config import HeadLoss
from gpt.train.objective import next_token

IGNORE = -100
SHAPES = {
    "laptop": {"N": 16 * 256, "C": 128, "V": 2048},
    "gpt2": {"N": 1024, "C": 768, "V": 50304},
    "gpt2, 32 x 1024": {"N": 32 * 1024, "C": 768, "V": 50304},
}
"""Rows, width, vocabulary; the last on a GPU alone."""


def whole(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the loss as train.head_loss: whole computes it."""
    return F.cross_entropy(F.linear(hidden, weight).float(), targets, ignore_index=IGNORE)


def blocks(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the loss in blocks of rows."""
    return chunked_cross_entropy(hidden, weight, targets, ignore=IGNORE)


def fused(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the loss in blocks of rows, each scored and differentiated by one kernel."""
    return chunked_cross_entropy(hidden, weight, targets, ignore=IGNORE, fused=True)


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"whole": whole, "blocks": blocks}
DIALS: dict[str, HeadLoss] = {"whole": "whole", "blocks": "chunked"}
if torch.cuda.is_available():
    WAYS["fused"], DIALS["fused"] = fused, "fused"
LAPTOP = ModelConfig(
    vocab_size=2048, max_seq_len=256, dim=128, n_layers=4, n_heads=2, n_kv_heads=2, ffn_dim=352, qk_norm=True
)
MODELS = {
    "laptop model": (LAPTOP, 8),
    "gpt2's vocabulary": (
        dataclasses.replace(LAPTOP, vocab_size=50304, max_seq_len=512, dim=256, n_heads=4),
        2,
    ),
}
"""Architecture and sequences of a step."""


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


def train_step(way: str, config: ModelConfig, batch: int, device: str) -> Callable[[], None]:
    """Return one training step of a model on random ids."""
    model = Transformer(config)
    init_weights(model, 1)
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(0, config.vocab_size, (batch, config.max_seq_len + 1), generator=g).to(device)

    def run() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            loss, _ = next_token(model, (ids[:, :-1], ids[:, 1:]), head_loss=DIALS[way])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    run()  # the optimizer's state
    return run


def peak_mib(way: str, name: str, device: str) -> float:
    """Return how much memory one step needs above its inputs; for a process that did nothing else."""
    if name in MODELS:
        config, batch = MODELS[name]
        small = dataclasses.replace(config, vocab_size=64, max_seq_len=16)
        return _peak(train_step(way, config, batch, device), train_step(way, small, 1, device), device)
    shape = SHAPES[name]
    few = inputs({key: min(size, 64) for key, size in shape.items()}, device)
    tensors = inputs(shape, device)
    return _peak(lambda: step(way, tensors, device), lambda: step(way, few, device), device)


def _peak(call: Callable[[], Any], small: Callable[[], Any], device: str) -> float:
    """Return the MiB that `call` needs above what is there; `small` allocates what libraries need once."""
    small()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark begins anew here
    before = high_water_kib()
    call()
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
    row: dict[str, Any] = {"shape": shape, **compared(name, times, device)}
    row["largest_difference"] = {
        way: {
            key: float(f"{(a - b).abs().max() / b.abs().max():.2g}")
            for key, a, b in zip(("loss", "hidden", "weight"), results[way], results["whole"], strict=True)
        }
        for way in WAYS
        if way != "whole"
    }
    return row


def measured_steps(name: str, rounds: int, device: str) -> dict[str, Any]:
    """Return times and peaks of the training step of one model."""
    config, batch = MODELS[name]
    steps = {way: train_step(way, config, batch, device) for way in WAYS}
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, run in steps.items():
            started = time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            times[way].append(time.perf_counter() - started)
    shape = {"batch": batch, "T": config.max_seq_len, "C": config.dim, "V": config.vocab_size}
    return {"shape": shape, **compared(name, times, device)}


def compared(name: str, times: dict[str, list[float]], device: str) -> dict[str, Any]:
    """Return medians, peaks and the ratios to the whole way; a ratio's standard error is that of a median."""
    row: dict[str, Any] = {}
    for way in WAYS:
        child = [sys.executable, "-m", "benchmarks.chunked_cross_entropy", "--peak", way, name, device]
        peak = float(subprocess.run(child, capture_output=True, text=True, check=True).stdout)
        row[way] = {"ms": round(1000 * statistics.median(times[way]), 2), "peak_mib": round(peak, 1)}
    for way in WAYS:
        if way != "whole":
            ratios = [a / b for a, b in zip(times[way], times["whole"], strict=True)]
            row[way]["time_ratio"] = round(statistics.median(ratios), 3)
            row[way]["time_ratio_se"] = round(1.25 * statistics.stdev(ratios) / len(ratios) ** 0.5, 3)
            row[way]["memory_ratio"] = round(row[way]["peak_mib"] / row["whole"]["peak_mib"], 3)
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
        print(peak_mib(way, name, device))
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    names = [name for name, shape in SHAPES.items() if device == "cuda" or shape["N"] <= 4096]
    rows = {name: measured(name, arguments.rounds, device) for name in names}
    steps = {name: measured_steps(name, arguments.rounds, device) for name in MODELS}
    result = {"seed": 1, "rounds": arguments.rounds, "device": device, **rows, "training_steps": steps}
    write_result("chunked_cross_entropy", result, suffix="_cuda" if device == "cuda" else "")


if __name__ == "__main__":
    main()
