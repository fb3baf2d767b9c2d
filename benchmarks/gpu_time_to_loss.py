"""How soon is nanoGPT's five-minute loss reached? One GPU, books, GPT-2's shapes.

nanoGPT's 124M (its model.py, compiled, bf16, AdamW at its GPT-2 settings, cosine to a tenth over the steps
that fit its minutes) trains for --minutes; ours, the modern mode of the same size with Muon, trains for as
many steps as fit --our-seconds. Same token stream, batch of 32 x 1,024, same fixed validation windows.
Compilation is excluded on both sides: each takes two untimed steps first, on weights that are reset after.
--tokens is a flat little-endian uint16 file of GPT-2 ids, at most 60 MB where it must travel with the tree:

    python -m benchmarks.gpu_time_to_loss --write-tokens data/.cache/books.bin   (needs the registry)
    python -m benchmarks.gpu_time_to_loss --tokens data/.cache/books.bin --nanogpt ../nanoGPT

Not run yet: no GPU was at hand (docs/experiments.md). `--device cpu --preset s4-tiny --minutes 0.1
--our-seconds 6 --batch 1` is its rehearsal.
"""

import argparse
import contextlib
import copy
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.nanogpt import load_nanogpt, nanogpt_model
from benchmarks.result_file import write_result
from gpt.dataset.loader import TokenWindows
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.loss import mean_loss
from gpt.model.presets import preset
from gpt.model.transformer import Transformer
from gpt.optim.config import OptimConfig
from gpt.optim.optimizer import Optimizer

VAL_TOKENS = 500_000
VAL_BATCHES = 10
LossOf = Callable[[Tensor, Tensor], Tensor]


def write_tokens(path: Path) -> None:
    """Write the books and novels of the registry as GPT-2 ids, documents in name order."""
    import bz2
    import json

    import tiktoken

    from gpt.corpus.registry import fetch

    encoding = tiktoken.get_encoding("gpt2")
    parts = []
    for name in ("books_a", "novels"):
        with bz2.open(fetch(name), "rt", encoding="utf-8") as file:
            for line in file:
                ids = [*encoding.encode_ordinary(json.loads(line)["text"]), encoding.eot_token]
                parts.append(np.array(ids, dtype="<u2"))
    np.concatenate(parts)[:30_000_000].tofile(path)


def plain_optim(steps: int) -> OptimConfig:
    """nanoGPT's GPT-2 settings, the warm-up cut to the run."""
    return OptimConfig(
        name="adamw",
        lr=6.0e-4,
        matrix_lr=0.02,
        beta1=0.9,
        beta2=0.95,
        weight_decay=0.1,
        schedule="cosine",
        warmup_steps=max(1, steps // 20),
        decay_fraction=0.5,
        min_lr_ratio=0.1,
        max_grad_norm=1.0,
    )


def our_optim(steps: int) -> OptimConfig:
    """Muon on the matrices, a linear decay."""
    fast = {"name": "muon", "lr": 3.0e-3, "weight_decay": 0.01, "schedule": "wsd", "min_lr_ratio": 0.0}
    return dataclasses.replace(plain_optim(steps), **fast)


def our_model(base: ModelConfig) -> ModelConfig:
    """The same depth and width with the dials of fast training; no bigram table for so many ids."""
    return dataclasses.replace(
        base,
        norm="rmsnorm",
        norm_gain=False,
        activation="relu2",
        position="rope",
        bias=False,
        qk_norm=True,
        logit_softcap=15.0,
        token_shift=True,
        value_residual=True,
    )


def race(
    model: nn.Module,
    loss_of: LossOf,
    make_optim: Callable[[int], OptimConfig],
    seconds: float,
    windows: TokenWindows,
    val: TokenWindows,
    *,
    batch: int,
    device: str,
) -> dict[str, float]:
    """Train for `seconds` of steps; return steps, seconds, tokens/s and the final validation loss."""

    def sample(source: TokenWindows, step: int) -> tuple[Tensor, Tensor]:
        x, y = source.batch(step * batch, batch)
        return x.to(device), y.to(device)

    def autocast() -> contextlib.AbstractContextManager[None]:
        return torch.autocast(device, dtype=torch.bfloat16) if device == "cuda" else contextlib.nullcontext()

    def drain() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def train_step(optimizer: Optimizer, step: int) -> None:
        with autocast():
            loss = loss_of(*sample(windows, step))
        loss.backward()
        optimizer.clip()
        optimizer.step(step)

    start_weights = copy.deepcopy(model.state_dict())
    trial = Optimizer(model, make_optim(100), 100)
    for step in range(2):
        train_step(trial, step)
    started = drain()
    for step in range(2, 6):
        train_step(trial, step)
    n_steps = max(2, int(seconds / ((drain() - started) / 4)))
    model.load_state_dict(start_weights)
    optimizer = Optimizer(model, make_optim(n_steps), n_steps)
    started = drain()
    for step in range(n_steps):
        train_step(optimizer, step)
    spent = drain() - started
    model.eval()
    with torch.no_grad(), autocast():
        losses = [loss_of(*sample(val, i)).item() for i in range(VAL_BATCHES)]
    tokens = n_steps * batch * windows.seq_len
    return {
        "steps": n_steps,
        "seconds": round(spent, 1),
        "tokens_per_s": round(tokens / spent),
        "val_loss": round(float(np.mean(losses)), 4),
        "standard_error": round(float(np.std(losses, ddof=1) / len(losses) ** 0.5), 4),
    }


def main() -> None:
    """Train both sides on the same tokens."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write-tokens", type=Path)
    parser.add_argument("--tokens", type=Path)
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--preset", default="gpt2-124m")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--our-seconds", type=float, nargs="+", default=[60.0, 100.0])
    arguments = parser.parse_args()
    if arguments.write_tokens:
        write_tokens(arguments.write_tokens)
        return
    if not arguments.tokens or not arguments.nanogpt:
        raise SystemExit("--tokens and --nanogpt: both are needed; see --help")
    base = dataclasses.replace(preset(arguments.preset), vocab_size=50304)
    ids = np.memmap(arguments.tokens, dtype="<u2", mode="r")
    windows = TokenWindows(ids[:-VAL_TOKENS], base.max_seq_len, seed=1)
    val = TokenWindows(ids[-VAL_TOKENS:], base.max_seq_len, seed=0)
    settings = {"batch": arguments.batch, "device": arguments.device}
    source = load_nanogpt(arguments.nanogpt)
    torch.manual_seed(1)
    theirs = nanogpt_model(source, dataclasses.replace(base, bias=False)).to(arguments.device)
    forward = torch.compile(theirs)
    rows = {
        "nanogpt": race(
            theirs,
            lambda x, y: forward(x, y)[1],
            plain_optim,
            60 * arguments.minutes,
            windows,
            val,
            **settings,
        )
    }
    for seconds in arguments.our_seconds:
        torch._dynamo.reset()
        model = Transformer(our_model(base))
        init_weights(model, 1, zero_residual=True)
        model.to(arguments.device)
        ours = torch.compile(model)
        rows[f"ours_{seconds:g}_s"] = race(
            model, lambda x, y, f=ours: mean_loss(f(x), y), our_optim, seconds, windows, val, **settings
        )
    write_result("gpu_time_to_loss", {"data": "books_a + novels, GPT-2 ids", "seed": 1, "rows": rows})


if __name__ == "__main__":
    main()
