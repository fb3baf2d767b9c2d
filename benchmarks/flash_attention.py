"""How fast is our FlashAttention on a GPU? TFLOP/s beside PyTorch's flash, cuDNN's, FlexAttention and plain.

Causal attention in bfloat16 over 16,384 tokens of width 2,048 (the sizes of the FlashAttention papers), for
each length and head dim. One run, peers interleaved, median of the rounds; a causal forward counts
2 B H T^2 D operations, the backward 2.5 times as many. FlexAttention is compiled in its default mode. Errors
are against float64 on a smaller problem. Goals: forward at least 1.1 and backward 1.0 of PyTorch's flash;
forward at least 0.65 of cuDNN's at head dim 128 and 0.9 at 64; 30 times plain attention at 4,096.

    python -m benchmarks.flash_attention                         (a CUDA device; some 5 minutes by estimate)
    TRITON_INTERPRET=1 python -m benchmarks.flash_attention --rehearse          (any machine; half a minute)

Needs torch and triton alone. The rehearsal shows that the program runs; its times mean nothing and are not
kept. Not run on a GPU yet: none was at hand (docs/experiments.md).
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from benchmarks.gpu_clock import seconds
from benchmarks.result_file import write_result
from gpt.kernels.flash_attention import flash_attention
from gpt.kernels.reference_attention import reference_attention
from gpt.kernels.tuning import chosen

TOKENS, WIDTH = 16384, 2048
SLICE_S = 0.03
"""How long one measurement of one peer lasts, at least."""
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
GOALS = {
    "forward over sdpa_flash": {64: 1.1, 128: 1.1},
    "backward over sdpa_flash": {64: 1.0, 128: 1.0},
    "forward over cudnn": {64: 0.9, 128: 0.65},
}


def by_sdpa(q: Tensor, k: Tensor, v: Tensor, *, backend: SDPBackend) -> Tensor:
    """Attend with one of PyTorch's own kernels, or raise."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H, T, D)
    gqa = q.shape[1] != k.shape[1]
    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=gqa).transpose(1, 2)


def by_flex(length: int, device: str) -> Attention:
    """Return FlexAttention over a causal block mask, compiled on a GPU."""
    torch._dynamo.reset()  # a second length must not become a dynamic one
    function = torch.compile(flex_attention, dynamic=False) if device == "cuda" else flex_attention
    mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, length, length, device=device)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        gqa = q.shape[2] != k.shape[2]
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        return function(q, k, v, block_mask=mask, enable_gqa=gqa).transpose(1, 2)

    return attend


def peers(length: int, device: str) -> dict[str, Attention]:
    """Return everything that is compared, on (B, T, H, D)."""
    return {
        "ours": flash_attention,
        "sdpa_flash": functools.partial(by_sdpa, backend=SDPBackend.FLASH_ATTENTION),
        "cudnn": functools.partial(by_sdpa, backend=SDPBackend.CUDNN_ATTENTION),
        "flex": by_flex(length, device),
        "plain": reference_attention,
    }


def tensors(
    batch: int, length: int, heads: int, kv_heads: int, head_dim: int, device: str
) -> tuple[list[Tensor], Tensor]:
    """Return q, k, v in bfloat16 and the gradient of the output."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(batch, length, h, head_dim) for h in (heads, kv_heads, kv_heads, heads)]
    q, k, v, up = (torch.randn(size, generator=generator).to(device, torch.bfloat16) for size in sizes)
    return [x.requires_grad_() for x in (q, k, v)], up


def prepared(
    attend: Attention, inputs: list[Tensor], up: Tensor
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Run both directions once (they compile and choose tiles) and return them as calls to be timed."""
    out = attend(*inputs)

    def backward() -> Any:
        return torch.autograd.grad(out, inputs, up, retain_graph=True)

    backward()
    return lambda: attend(*inputs), backward


def race(
    batch: int, length: int, heads: int, kv_heads: int, head_dim: int, *, rounds: int, device: str
) -> dict[str, Any]:
    """Return TFLOP/s of every peer that runs, and why the others do not."""
    inputs, up = tensors(batch, length, heads, kv_heads, head_dim, device)
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    row: dict[str, Any] = {}
    for name, attend in peers(length, device).items():
        try:
            calls[name, "forward"], calls[name, "backward"] = prepared(attend, inputs, up)
        except (RuntimeError, torch.OutOfMemoryError) as error:  # a kernel that is not there, or no room
            if name == "ours":
                raise
            row[name] = f"does not run: {str(error).splitlines()[0][:160]}"
            torch.cuda.empty_cache()
    repeats = {key: max(1, int(SLICE_S / seconds(call, 2, device))) for key, call in calls.items()}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            times[key].append(seconds(call, repeats[key], device))
    forward_flops = 2 * batch * heads * length**2 * head_dim
    for name in dict.fromkeys(name for name, _ in calls):
        spent = {way: statistics.median(times[name, way]) for way in ("forward", "backward")}
        row[name] = {
            "forward": round(forward_flops / spent["forward"] / 1e12, 4),
            "backward": round(2.5 * forward_flops / spent["backward"] / 1e12, 4),
            "both": round(3.5 * forward_flops / sum(spent.values()) / 1e12, 4),
            "forward_ms": round(1000 * spent["forward"], 4),
            "backward_ms": round(1000 * spent["backward"], 4),
        }
    return {"B": batch, "T": length, "H": heads, "G": kv_heads, "D": head_dim, "tflops": row}


def errors(length: int, head_dim: int, device: str) -> dict[str, Any]:
    """Return the largest and the mean absolute difference from float64 of out, dq, dk and dv."""
    inputs, up = tensors(1, length, 2, 2, head_dim, device)
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    exact = reference_attention(*doubles)
    wanted = [exact, *torch.autograd.grad(exact, doubles, up.double())]
    found: dict[str, Any] = {}
    for name, attend in peers(length, device).items():
        try:
            out = attend(*inputs)
            pairs = zip([out, *torch.autograd.grad(out, inputs, up)], wanted, strict=True)
        except RuntimeError as error:
            found[name] = f"does not run: {str(error).splitlines()[0][:160]}"
            continue
        apart = [(a.double() - b).abs() for a, b in pairs]
        found[name] = {
            key: {"max": float(f"{x.max():.3g}"), "mean": float(f"{x.mean():.3g}")}
            for key, x in zip(("out", "dq", "dk", "dv"), apart, strict=True)
        }
    return {"T": length, "D": head_dim, "against_float64": found}


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return our ratio to each peer that a goal names, and whether it is met."""
    found = []
    for row in rows:
        rates = {name: rate for name, rate in row["tflops"].items() if isinstance(rate, dict)}
        wanted = {name: by_dim.get(row["D"]) for name, by_dim in GOALS.items()}
        wanted["forward over plain"] = 30.0 if row["T"] == 4096 else None
        for name, goal in wanted.items():
            way, peer = name.split(" over ")
            if goal and peer in rates:
                ratio = rates["ours"][way] / rates[peer][way]
                shape = {key: row[key] for key in ("T", "D", "G")}
                found.append(
                    {**shape, "what": name, "ratio": round(ratio, 3), "goal": goal, "met": ratio >= goal}
                )
    return found


def main() -> None:
    """Measure every shape and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--head-dims", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rehearse", action="store_true", help="toy sizes on the CPU; writes no result")
    arguments = parser.parse_args()
    started = time.perf_counter()
    if arguments.rehearse:
        rows = [race(1, 48, 2, kv_heads, 16, rounds=2, device="cpu") for kv_heads in (2, 1)]
        print({"rows": rows, "errors": errors(48, 16, "cpu"), "goals": goals(rows)})
        return
    if not torch.cuda.is_available():
        raise SystemExit(
            "no CUDA device; type: TRITON_INTERPRET=1 python -m benchmarks.flash_attention --rehearse"
        )
    rows = []
    for head_dim in arguments.head_dims:
        heads = WIDTH // head_dim
        groups = [(length, heads) for length in arguments.lengths] + [(arguments.lengths[0], heads // 4)]
        for length, kv_heads in groups:
            batch = max(1, TOKENS // length)
            rows.append(
                race(batch, length, heads, kv_heads, head_dim, rounds=arguments.rounds, device="cuda")
            )
            print(rows[-1], flush=True)
    result = {
        "data": "normal random tensors (synthetic), bfloat16, causal",
        "seed": 1,
        "rounds": arguments.rounds,
        "triton": triton.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "rows": rows,
        "errors": [errors(1024, head_dim, "cuda") for head_dim in arguments.head_dims],
        "goals": goals(rows),
        "tiles": {" ".join(map(str, key)): str(blocks) for key, blocks in chosen.items()},
        "seconds": round(time.perf_counter() - started),
    }
    write_result("flash_attention", result)


if __name__ == "__main__":
    main()
