"""Training tokens/s beside nanoGPT's model.py on the same shapes: forward, backward, clip, fused AdamW.

Ours is in GPT-2 mode; random ids; all sides in turns, medians; beside them what the machine's matmul
reaches at best in the same run. `tiny` is nanoGPT's tiny-Shakespeare model (6 x 384, T 256, 10.65M) with
its dropout of 0.2; nanoGPT also drops inside attention, which keeps its SDPA off the fast path on a CPU, so
it is measured with dropout 0 too. The GPT-2 sizes (T 1024, dropout 0, bf16) are for a GPU.

    git clone https://github.com/karpathy/nanoGPT ../nanoGPT
    python -m benchmarks.throughput_against_nanogpt --nanogpt ../nanoGPT
    python -m benchmarks.throughput_against_nanogpt --nanogpt ../nanoGPT --shapes gpt2-124m --device cuda
"""

import argparse
import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from benchmarks.nanogpt import load_nanogpt, nanogpt_model
from benchmarks.result_file import write_result
from gpt.model.config import ModelConfig
from gpt.model.flops import training_flops_per_token
from gpt.model.init_weights import init_weights
from gpt.model.loss import mean_loss
from gpt.model.presets import preset
from gpt.model.transformer import Transformer

TINY = ModelConfig(
    vocab_size=65,
    max_seq_len=256,
    dim=384,
    n_layers=6,
    n_heads=6,
    n_kv_heads=6,
    ffn_dim=4 * 384,
    norm="layernorm",
    activation="gelu",
    position="learned",
    dropout=0.2,
)
SHAPES = {
    "tiny": (TINY, 64),
    "gpt2-124m": (preset("gpt2-124m"), 32),
    "gpt2-350m": (preset("gpt2-350m"), 16),
}
"""Architecture and batch in sequences. nanoGPT's tiny model has no biases, GPT-2's sizes have them."""
Step = Callable[[], None]


def nanogpt_step(
    source: ModuleType,
    config: ModelConfig,
    batch: int,
    *,
    dtype: torch.dtype,
    compiled: bool = False,
    device: str = "cpu",
) -> Step:
    """Return one training step of nanoGPT's model of our config's shapes."""
    torch.manual_seed(0)
    model = nanogpt_model(source, config).to(device).train()
    forward = torch.compile(model) if compiled else model
    return _step(model, lambda x, y: forward(x, y)[1], config, batch, dtype, device)


def our_step(
    config: ModelConfig, batch: int, *, dtype: torch.dtype, compiled: bool, device: str = "cpu"
) -> Step:
    """Return the same step with our model."""
    model = Transformer(config)
    init_weights(model, 0)
    model.to(device).train()
    forward = torch.compile(model) if compiled else model
    return _step(model, lambda x, y: mean_loss(forward(x), y), config, batch, dtype, device)


def _step(
    model: nn.Module,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    config: ModelConfig,
    batch: int,
    dtype: torch.dtype,
    device: str,
) -> Step:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=True)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (batch, config.max_seq_len + 1), generator=generator).to(device)
    x, y = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def step() -> None:
        autocast = torch.autocast(device, dtype=dtype) if dtype != torch.float32 else contextlib.nullcontext()
        with autocast:
            loss = loss_of(x, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def matmul_rate(dtype: torch.dtype, device: str = "cpu") -> float:
    """Return the best FLOP/s of a square matmul."""
    size = 2048 if device == "cpu" else 8192
    a = torch.ones(size, size, dtype=dtype, device=device)
    return 2 * size**3 / min(seconds_of(lambda: a @ a, device) for _ in range(6))


def seconds_of(step: Callable[[], object], device: str) -> float:
    """Return the wall time of one call, a GPU's queue drained before and after."""
    drain = torch.cuda.synchronize if device == "cuda" else lambda: None
    drain()
    started = time.perf_counter()
    step()
    drain()
    return time.perf_counter() - started


def interleaved(steps: dict[str, Step], rounds: int, tokens: int, device: str = "cpu") -> dict[str, float]:
    """Return the median tokens/s of each step, after two untimed rounds (compilation, first touch)."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            spent = seconds_of(step, device)
            if turn >= 2:
                seconds[name].append(spent)
    return {name: round(tokens / statistics.median(each), 1) for name, each in seconds.items()}


def cpu_steps(source: ModuleType, config: ModelConfig, batch: int) -> dict[str, Step]:
    """Return the sides that a CPU compares."""
    fp32, bf16 = torch.float32, torch.bfloat16
    still = dataclasses.replace(config, dropout=0.0)
    return {
        "nanogpt_fp32": nanogpt_step(source, config, batch, dtype=fp32),
        "nanogpt_bf16": nanogpt_step(source, config, batch, dtype=bf16),
        "nanogpt_fp32_dropout_0": nanogpt_step(source, still, batch, dtype=fp32),
        "ours_fp32": our_step(config, batch, dtype=fp32, compiled=False),
        "ours_fp32_compiled": our_step(config, batch, dtype=fp32, compiled=True),
        "ours_bf16_compiled": our_step(config, batch, dtype=bf16, compiled=True),
    }


def gpu_steps(source: ModuleType, config: ModelConfig, batch: int) -> dict[str, Step]:
    """Return the sides that a GPU compares: compiled, bf16."""
    bf16 = torch.bfloat16
    return {
        "nanogpt_bf16_compiled": nanogpt_step(
            source, config, batch, dtype=bf16, compiled=True, device="cuda"
        ),
        "ours_bf16_compiled": our_step(config, batch, dtype=bf16, compiled=True, device="cuda"),
    }


def main() -> None:
    """Measure all sides in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True)
    parser.add_argument("--shapes", choices=list(SHAPES), default="tiny")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    source = load_nanogpt(arguments.nanogpt)
    config, batch = SHAPES[arguments.shapes]
    on_gpu = arguments.device == "cuda"
    steps = (gpu_steps if on_gpu else cpu_steps)(source, config, batch)
    tokens = batch * config.max_seq_len
    rates = interleaved(steps, arguments.rounds, tokens, arguments.device)
    matmul = {"bf16": matmul_rate(torch.bfloat16, arguments.device)}
    if not on_gpu:
        matmul["fp32"] = matmul_rate(torch.float32)
    ours = max((name for name in rates if name.startswith("ours")), key=rates.__getitem__)
    flops = training_flops_per_token(config, config.max_seq_len)
    result = {
        "data": "random ids",
        "seed": 0,
        "shapes": arguments.shapes,
        "rounds": arguments.rounds,
        "threads": None if on_gpu else arguments.threads,
        "tokens_per_step": tokens,
        "tokens_per_s": rates,
        "our_best": ours,
        "our_best_over": {
            name: round(rates[ours] / rate, 3) for name, rate in rates.items() if name.startswith("nanogpt")
        },
        "matmul_gflops": {name: round(rate / 1e9) for name, rate in matmul.items()},
        "our_best_share_of_best_matmul": round(rates[ours] * flops / max(matmul.values()), 3),
    }
    if on_gpu:
        result["peak_memory_gib_all_sides"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    suffix = "" if arguments.shapes == "tiny" else f"_{arguments.shapes.replace('-', '_')}"
    write_result("throughput_against_nanogpt", result, suffix=suffix)


if __name__ == "__main__":
    main()
