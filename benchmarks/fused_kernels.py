"""Does each fused kernel pay? Time and GB/s beside eager PyTorch and torch.compile, and a verdict.

The sizes of the 124M model (16 x 1,024 tokens of width 768, 12 heads of 64, feed-forward of 2,048,
vocabulary 50,304) in bfloat16 with fp32 gains and residual stream, as autocast makes them. Forward and
forward + backward, peers in turns, medians of the rounds. Bytes are those that a perfect kernel must move,
the same for all peers. A kernel is kept when it is faster than eager and than torch.compile both ways; peers
are also compared with float64. The head's loss (head_loss: whole, chunked, fused) is measured with its
matrix products and its memory.

    python -m benchmarks.fused_kernels                       (a CUDA device; some four minutes by estimate)
    TRITON_INTERPRET=1 python -m benchmarks.fused_kernels --device cpu --toy      (any machine; two minutes)

Needs torch and triton alone. A rehearsal shows that the program runs; its times mean nothing and are not
kept.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_clock import device_or_exit, race
from benchmarks.result_file import write_result
from gpt.kernels.add_norm import add_rms_norm
from gpt.kernels.chunked_cross_entropy import chunked_cross_entropy
from gpt.kernels.qk_rope import qk_rope
from gpt.kernels.swiglu import swiglu
from gpt.kernels.tuning import chosen
from gpt.model.rope import apply_rope, rope_table

SEED, EPS, IGNORE = 1, 1e-5, -100
SIZES = {"B": 16, "T": 1024, "C": 768, "H": 12, "G": 12, "F": 2048, "V": 50304}
TOY = {"B": 1, "T": 4, "C": 32, "H": 2, "G": 1, "F": 48, "V": 96}
Function = Callable[..., Any]
Problem = tuple[Function, Function, list[Tensor], list[Tensor]]
"""Our kernel, the plain functions, inputs, and the gradients of the outputs."""


def problems(size: dict[str, int], device: str, dtype: torch.dtype) -> dict[str, Problem]:
    """Return every kernel with what it is compared with."""
    generator = torch.Generator().manual_seed(SEED)
    n, head_dim = size["B"] * size["T"], size["C"] // size["H"]

    def make(*shape: int, as_type: torch.dtype = dtype, scale: float = 1.0) -> Tensor:
        tensor = scale * torch.randn(shape, generator=generator)
        return tensor.to(device, as_type).requires_grad_()

    def plain_norm(x: Tensor, update: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        total = x + update
        return total, F.rms_norm(total, gain.shape, gain, EPS).to(update.dtype)

    def our_norm(x: Tensor, update: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
            return add_rms_norm(x, update, gain, EPS)

    cos, sin = (table.to(device) for table in rope_table(size["T"], head_dim, 1e4))

    def plain_rope(q: Tensor, k: Tensor, *gains: Tensor) -> tuple[Tensor, ...]:
        normed = (
            F.rms_norm(x.float(), g.shape, g, EPS).to(x.dtype) for x, g in zip((q, k), gains, strict=True)
        )
        return tuple(apply_rope(x, cos, sin) for x in normed)

    def our_rope(q: Tensor, k: Tensor, *gains: Tensor) -> tuple[Tensor, Tensor]:
        return qk_rope(q, k, (cos, sin), norm=True, gains=(gains[0], gains[1]), eps=EPS)

    gate, up = make(n, size["F"]), make(n, size["F"])
    stream, update = make(n, size["C"], as_type=torch.float32), make(n, size["C"])
    gain = make(size["C"], as_type=torch.float32)
    q = make(size["B"], size["T"], size["H"], head_dim)
    k = make(size["B"], size["T"], size["G"], head_dim)
    gains = [make(head_dim, as_type=torch.float32) for _ in range(2)]
    found: dict[str, Problem] = {
        "swiglu": (swiglu, lambda g, u: F.silu(g) * u, [gate, up], [make(n, size["F"])]),
        "norm": (
            our_norm, plain_norm, [stream, update, gain],
            [make(n, size["C"], as_type=torch.float32), make(n, size["C"])],
        ),
        "rope": (our_rope, plain_rope, [q, k, *gains], [make(*q.shape), make(*k.shape)]),
    }  # fmt: skip
    return found


def n_bytes(tensors: list[Tensor]) -> int:
    """Return what the tensors take."""
    return sum(tensor.nbytes for tensor in tensors)


def measured(problem: Problem, rounds: int, device: str) -> dict[str, Any]:
    """Return time, GB/s, error and verdict of one kernel."""
    ours, plain, inputs, ups = problem
    torch._dynamo.reset()
    compiled = torch.compile(plain, dynamic=False) if device == "cuda" else plain
    peers = {"ours": ours, "eager": plain, "compiled": compiled}

    def both(function: Function) -> list[Tensor]:
        out = function(*inputs)
        outputs = list(out) if isinstance(out, tuple) else [out]
        return [*outputs, *torch.autograd.grad(outputs, inputs, ups)]

    doubles = [x.detach().double().requires_grad_() for x in inputs]
    exact = plain(*doubles)
    outputs = list(exact) if isinstance(exact, tuple) else [exact]
    wanted = [*outputs, *torch.autograd.grad(outputs, doubles, [up.double() for up in ups])]
    row: dict[str, Any] = {"shapes": [tuple(x.shape) for x in inputs]}
    row["largest_error_relative"] = {
        name: [
            float(f"{(a - b).abs().max() / b.abs().max():.2g}") for a, b in zip(both(f), wanted, strict=True)
        ]
        for name, f in peers.items()
    }
    with torch.no_grad():
        forward = race({name: lambda f=f: f(*inputs) for name, f in peers.items()}, rounds, device)
    whole = race({name: lambda f=f: both(f) for name, f in peers.items()}, rounds, device)
    moved = {
        "forward": n_bytes(inputs) + n_bytes(ups),  # an output is as large as its gradient
        "forward_backward": 3 * n_bytes(inputs) + 2 * n_bytes(ups),
    }
    for way, times in (("forward", forward), ("forward_backward", whole)):
        for spent in times.values():
            spent["gb_per_s"] = round(moved[way] / spent["us"] / 1e3, 1)
        row[way] = times
    gains = {
        f"{way} over {peer}": round(row[way][peer]["us"] / row[way]["ours"]["us"], 3)
        for way in ("forward", "forward_backward")
        for peer in ("eager", "compiled")
    }
    return row | {"gains": gains, "keep": all(gain > 1 for gain in gains.values())}


def head(size: dict[str, int], rounds: int, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Return time and memory of the head with its loss in three ways, both directions."""
    generator = torch.Generator().manual_seed(SEED)
    n = size["B"] * size["T"]
    hidden = torch.randn(n, size["C"], generator=generator).to(device, dtype).requires_grad_()
    weight = (0.02 * torch.randn(size["V"], size["C"], generator=generator)).to(device).requires_grad_()
    targets = torch.randint(0, size["V"], (n,), generator=generator).to(device)

    def whole(x: Tensor, w: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(x, w).float(), targets, ignore_index=IGNORE)

    ways: dict[str, Function] = {
        "whole": whole,
        "whole compiled": torch.compile(whole, dynamic=False) if device == "cuda" else whole,
        "chunked": lambda x, w: chunked_cross_entropy(x, w, targets, ignore=IGNORE),
        "fused": lambda x, w: chunked_cross_entropy(x, w, targets, ignore=IGNORE, fused=True),
    }

    def step(way: str) -> tuple[Tensor, ...]:
        with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
            loss = ways[way](hidden, weight)
        return torch.autograd.grad(loss, (hidden, weight))

    row: dict[str, Any] = {"shape": {"N": n, "C": size["C"], "V": size["V"]}, "peak_mib": {}}
    for way in ways:
        step(way)
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            step(way)
            torch.cuda.synchronize()
            row["peak_mib"][way] = round((torch.cuda.max_memory_allocated() - before) / 2**20)
    times = race({way: lambda way=way: step(way) for way in ways}, rounds, device)
    best = min(times["whole"]["us"], times["whole compiled"]["us"])
    keep = {way: bool(times[way]["us"] < best) for way in ("chunked", "fused")}
    return row | {"forward_backward": times, "faster_than_whole": keep}


def main() -> None:
    """Measure every kernel and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--toy", action="store_true", help="toy sizes in fp32; writes no result")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    device = device_or_exit(arguments.device, "fused_kernels")
    if device == "cpu" and not arguments.toy:
        parser.error("--device cpu is for rehearsals: add --toy")
    size = TOY if arguments.toy else SIZES
    dtype = torch.float32 if device == "cpu" else torch.bfloat16  # Triton's interpreter is wrong in bfloat16
    rounds = 2 if arguments.toy else arguments.rounds
    kernels = {}
    for name, problem in problems(size, device, dtype).items():
        kernels[name] = measured(problem, rounds, device)
        print(name, kernels[name]["gains"], flush=True)
    result = {
        "data": "normal random tensors (synthetic)",
        "seed": SEED,
        "rounds": rounds,
        "dtype": str(dtype),
        "sizes": size,
        "kernels": kernels,
        "head": head(size, rounds, device, dtype),
        "choices": {" ".join(map(str, key)): str(choice) for key, choice in chosen.items()},
    }
    if arguments.toy:
        print(result)
        return
    write_result("fused_kernels", result)


if __name__ == "__main__":
    main()
