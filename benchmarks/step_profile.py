"""Where does the 124M training step's time go on a GPU, and what does each fused kernel change? MFU and
shares.

The modern recipe at 124M (12 x 768, T 1,024, RMSNorm, RoPE with QK-norm, SwiGLU, vocabulary 50,304), random
ids, bfloat16 autocast, fused AdamW, clipping. One variant at a time against the same baseline: each of
fused_kernels alone, all of them, flash attention, chunked and fused head loss, everything; once eager and
once under torch.compile. Variants of one mode in turns, medians of the rounds; each is held in memory alone
and is kept when its step is faster than the baseline's in both modes by more than two standard errors. Then
one step of the compiled baseline and of everything is profiled: share of the GPU's time by kind of kernel
and the ten longest kernels.

    python -m benchmarks.step_profile                      (a CUDA device; some seven minutes by estimate)
    TRITON_INTERPRET=1 python -m benchmarks.step_profile --device cpu --toy        (any machine; a minute)

Needs torch, triton and numpy alone. A rehearsal shows that the program runs; its times are not kept.
"""

import argparse
import dataclasses
import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_clock import device_or_exit
from benchmarks.result_file import write_result
from gpt.model.config import ModelConfig
from gpt.model.flops import count_parameters, training_flops_per_token
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.train.config import HeadLoss
from gpt.train.objective import next_token
from gpt.train.throughput import peak_flops

MODEL = ModelConfig(
    vocab_size=50304, max_seq_len=1024, dim=768, n_layers=12, n_heads=12, n_kv_heads=12, ffn_dim=2048,
    qk_norm=True
)  # fmt: skip
TOY = ModelConfig(
    vocab_size=96, max_seq_len=16, dim=32, n_layers=1, n_heads=2, n_kv_heads=1, ffn_dim=48, qk_norm=True
)
VARIANTS: dict[str, tuple[dict[str, Any], HeadLoss]] = {
    "baseline": ({}, "whole"),
    "norm": ({"fused_kernels": ("norm",)}, "whole"),
    "rope": ({"fused_kernels": ("rope",)}, "whole"),
    "swiglu": ({"fused_kernels": ("swiglu",)}, "whole"),
    "all three": ({"fused_kernels": ("norm", "rope", "swiglu")}, "whole"),
    "flash": ({"attention_backend": "flash"}, "whole"),
    "head chunked": ({}, "chunked"),
    "head fused": ({}, "fused"),
    "everything": ({"fused_kernels": ("norm", "rope", "swiglu"), "attention_backend": "flash"}, "fused"),
}
KINDS = (
    ("ours", ("rows_kernel", "swiglu_kernel", "qk_kernel", "forward_kernel", "backward_kernel",
    "queries_kernel",
              "keys_kernel")),
    ("attention of PyTorch", ("flash", "fmha", "attention", "cudnn")),
    ("matrix products", ("gemm", "cutlass", "nvjet", "sm90_xmma", "ampere_", "cublas", "splitk")),
    ("optimizer and clipping", ("adam", "multi_tensor", "foreach", "norm_kernel")),
    ("compiled by torch", ("triton_",)),
    ("losses and softmax", ("softmax", "nll", "cross_entropy")),
    ("copies and casts", ("memcpy", "memset", "copy")),
    ("other element by element", ("elementwise", "vectorized", "reduce", "layer_norm", "rms_norm", "index")),
)  # fmt: skip
"""A kernel belongs to the first kind of whose words its name holds one."""
Step = Callable[[], None]


def make_step(variant: str, config: ModelConfig, batch: int, device: str, *, compiled: bool) -> Step:
    """Return one training step of a variant on a batch of random ids."""
    changes, way = VARIANTS[variant]
    model = Transformer(dataclasses.replace(config, **changes))
    init_weights(model, 0)
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward: nn.Module = torch.compile(model, dynamic=False) if compiled else model  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (batch, config.max_seq_len + 1), generator=generator).to(device)
    pair = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            loss, _ = next_token(forward, pair, head_loss=way)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def seconds(step: Step, device: str) -> float:
    """Return the wall time of one step, the GPU's queue drained before and after."""
    drain = torch.cuda.synchronize if device == "cuda" else lambda: None
    drain()
    started = time.perf_counter()
    step()
    drain()
    return time.perf_counter() - started


def measured(
    config: ModelConfig, batch: int, rounds: int, device: str, *, compiled: bool
) -> dict[str, dict[str, float]]:
    """Return milliseconds, tokens/s, MFU and memory of every variant in one mode.

    The baseline is run beside each variant, since all of them together do not fit in memory.
    """
    tokens = batch * config.max_seq_len
    flops = training_flops_per_token(config, config.max_seq_len) * tokens
    peak = peak_flops(torch.device(device))
    found: dict[str, dict[str, float]] = {}
    for variant in VARIANTS:
        torch._dynamo.reset()
        names = dict.fromkeys(("baseline", variant))
        steps = {name: make_step(name, config, batch, device, compiled=compiled) for name in names}
        times: dict[str, list[float]] = {name: [] for name in names}
        row: dict[str, float] = {}
        for name, step in steps.items():
            step()  # compiles, chooses tiles, makes the optimizer's state
            if device == "cuda" and name == variant:
                torch.cuda.synchronize()
                before = torch.cuda.memory_allocated()
                torch.cuda.reset_peak_memory_stats()
                step()
                row["activations_peak_gib"] = round((torch.cuda.max_memory_allocated() - before) / 2**30, 2)
        for _ in range(rounds):
            for name, step in steps.items():
                times[name].append(1000 * seconds(step, device))
        median = statistics.median(times[variant])
        gain = [a / b for a, b in zip(times["baseline"], times[variant], strict=True)]
        row |= {
            "ms": round(median, 3),
            "tokens_per_s": round(1000 * tokens / median),
            "mfu": round(1000 * flops / median / peak, 4),
            "speed_over_baseline": round(statistics.median(gain), 4),
            "se": round(1.25 * statistics.stdev(gain) / len(gain) ** 0.5, 4),
        }
        found[variant] = row
        print("compiled" if compiled else "eager", variant, row, flush=True)
        del steps, step
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
    return found


def kind_of(kernel: str) -> str:
    """Return which of KINDS a kernel's name belongs to."""
    name = kernel.lower()
    return next((kind for kind, words in KINDS if any(word in name for word in words)), "other")


def shares(variant: str, config: ModelConfig, batch: int, device: str, *, compiled: bool) -> dict[str, Any]:
    """Return the share of one step's time by kind of kernel, and the ten longest kernels."""
    torch._dynamo.reset()
    step = make_step(variant, config, batch, device, compiled=compiled)
    for _ in range(3):
        step()
    on_gpu = device == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as recorded:
        seconds(step, device)
    spent: dict[str, float] = defaultdict(float)
    for event in recorded.key_averages():
        spent[event.key] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    total = sum(spent.values())
    by_kind: dict[str, float] = defaultdict(float)
    for name, us in spent.items():
        by_kind[kind_of(name)] += us / total
    longest = sorted(spent.items(), key=lambda item: -item[1])[:10]
    return {
        "busy_ms": round(total / 1000, 3),
        "share_by_kind": {name: round(x, 4) for name, x in sorted(by_kind.items(), key=lambda kv: -kv[1])},
        "longest": {name[:120]: round(us / total, 4) for name, us in longest},
    }


def main() -> None:
    """Measure, profile and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--toy", action="store_true", help="toy sizes; writes no result")
    parser.add_argument("--batch", type=int, default=16, help="sequences of a step")
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    device = device_or_exit(arguments.device, "step_profile")
    if device == "cpu" and not arguments.toy:
        parser.error("--device cpu is for rehearsals: add --toy")
    started = time.perf_counter()
    config, batch, rounds = (TOY, 1, 2) if arguments.toy else (MODEL, arguments.batch, arguments.rounds)
    modes = {"eager": False} if device == "cpu" else {"eager": False, "compiled": True}
    steps = {
        mode: measured(config, batch, rounds, device, compiled=compiled) for mode, compiled in modes.items()
    }
    keep = {
        variant: all(
            rows[variant]["speed_over_baseline"] - 2 * rows[variant]["se"] > 1 for rows in steps.values()
        )
        for variant in VARIANTS
        if variant != "baseline"
    }
    profiled = {
        variant: shares(variant, config, batch, device, compiled=device == "cuda")
        for variant in ("baseline", "everything")
    }
    result = {
        "data": "random ids",
        "seed": 0,
        "rounds": rounds,
        "batch": batch,
        "seq_len": config.max_seq_len,
        "parameters": count_parameters(config).total,
        "steps": steps,
        "keep": keep,
        "profile": profiled,
        "seconds": round(time.perf_counter() - started),
    }
    if arguments.toy:
        print(result)
        return
    write_result("step_profile", result)


if __name__ == "__main__":
    main()
