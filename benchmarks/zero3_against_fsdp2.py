"""Is our ZeRO-3 as fast as PyTorch's FSDP2? Both train one model on the same ranks, step by step in turn.

Same weights, tokens, units (each block; embedding, final norm and head in the root), same units kept between
forward and backward (the root and the last block), same dtypes, torch's fused AdamW, clipping by the global
norm; on a CPU one thread a rank. First memory and bytes moved are counted, then pairs of steps are timed.
Tokens are random (synthetic): what is measured is sharding.

Without torchrun it starts two gloo ranks on this machine, about two minutes. On GPUs:
    torchrun --nproc-per-node 8 -m benchmarks.zero3_against_fsdp2 --backend nccl --dtype bf16 --dim 2048
`--table` prints the chapter's tables from the result.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from benchmarks.result_file import RESULTS, write_result
from benchmarks.start_ranks import start_ranks
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.loss import mean_loss
from gpt.model.transformer import Transformer
from gpt.parallel.memory import TRIES, account, formula, held, peak_above
from gpt.parallel.process_group import ProcessGroup, open_group
from gpt.parallel.zero3 import Zero3, shard_zero3

NAME = "zero3_against_fsdp2"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MAX_NORM = 1.0
WARM_STEPS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """One way to train: a step that returns the loss, and what it holds."""

    step: Callable[[Tensor], float]
    held_bytes: Callable[[], int]


def make_model(options: argparse.Namespace) -> Transformer:
    """Return the model, the same weights on every rank and for both engines."""
    config = ModelConfig(
        vocab_size=options.vocab,
        max_seq_len=options.seq_len,
        dim=options.dim,
        n_layers=options.layers,
        n_heads=options.dim // 64,
        n_kv_heads=options.dim // 64,
        ffn_dim=options.dim * 8 // 3 // 16 * 16,
        qk_norm=True,
    )
    model = Transformer(config)
    init_weights(model, 0)
    return model


def shard(options: argparse.Namespace, group: ProcessGroup) -> tuple[Zero3, torch.optim.Optimizer]:
    """Return the model under our engine, and its optimizer."""
    model = make_model(options)
    dtype = DTYPES[options.dtype]
    zero3 = shard_zero3(model, list(model.blocks), group, compute_dtype=dtype, prefetch=options.prefetch)
    return zero3, torch.optim.AdamW(zero3.parameters(), lr=1e-3, fused=True)


def accounts(options: argparse.Namespace, group: ProcessGroup) -> dict[str, Any]:
    """Return our bytes held and bytes moved beside the formulas; few tokens, so small activations."""
    zero3, optimizer = shard(options, group)
    one_sample = tokens(options, group, -1)[:1, :9]

    def step_of_two() -> None:
        for _ in range(2):
            mean_loss(zero3.module(one_sample[:, :-1]), one_sample[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()

    step_of_two()
    group.bytes_moved.clear()
    step_of_two()
    moved = {name: group.bytes_moved[name] // 2 for name in ("all_gather", "reduce_scatter")}
    computed, measured, text = account(zero3, optimizer, step_of_two)
    if group.rank == 0:
        print(text, flush=True)
    sizes = [sum(slot.shape.numel() for flat in u.flats for slot in flat.slots) for u in zero3.units]
    share, size = (group.world_size - 1) / group.world_size, DTYPES[options.dtype].itemsize
    gathered = 2 * sum(sizes) - sizes[0] - sizes[-1]
    parts = {name: round(value) for name, value in formula(zero3).items()}
    return {
        "n_parameters": sum(sizes),
        "memory": {
            "tokens": one_sample.numel(),
            "formula": parts | {"peak": round(computed)},
            "measured": held(zero3, optimizer) | {"peak": measured},
        },
        "bytes_moved": {
            "formula": {
                "all_gather": round(share * size * gathered),
                "reduce_scatter": round(share * 4 * sum(sizes)),
            },
            "per_step": moved,
            "saved_by_keeping_the_root_and_the_last_block": round(share * size * (sizes[0] + sizes[-1])),
        },
    }


def ours(options: argparse.Namespace, group: ProcessGroup) -> Engine:
    """Return our engine."""
    zero3, optimizer = shard(options, group)

    def step(token_ids: Tensor) -> float:
        loss = mean_loss(zero3.module(token_ids[:, :-1]), token_ids[:, 1:])
        loss.backward()
        zero3.clip_grad_norm(MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    def held_bytes() -> int:
        for flat in zero3.flats:
            flat.drop_cleared()
        return sum(held(zero3, optimizer).values())

    return Engine(step=step, held_bytes=held_bytes)


def theirs(options: argparse.Namespace, group: ProcessGroup) -> Engine:
    """Return torch's engine with the same units, dtypes and units kept."""
    model = make_model(options).to(group.device)
    policy = MixedPrecisionPolicy(param_dtype=DTYPES[options.dtype], reduce_dtype=torch.float32)
    for i, block in enumerate(model.blocks):
        fully_shard(block, mp_policy=policy, reshard_after_forward=i + 1 < len(model.blocks))
    fully_shard(model, mp_policy=policy, reshard_after_forward=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(token_ids: Tensor) -> float:
        loss = mean_loss(model(token_ids[:, :-1]), token_ids[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    def held_bytes() -> int:
        states = [value for state in optimizer.state.values() for value in state.values()]
        local = [getattr(t, "_local_tensor", t) for t in [*model.parameters(), *states]]
        return sum(t.untyped_storage().nbytes() for t in local)

    return Engine(step=step, held_bytes=held_bytes)


def tokens(options: argparse.Namespace, group: ProcessGroup, step: int) -> Tensor:
    """Return a rank's random tokens (B, T + 1) of a step."""
    generator = torch.Generator().manual_seed((step + 1) * group.world_size + group.rank)
    shape = (options.batch, options.seq_len)
    return torch.randint(0, options.vocab, shape, generator=generator).to(group.device)


def timed(engine: Engine, token_ids: Tensor, group: ProcessGroup) -> tuple[float, float]:
    """Return the seconds of a step that all ranks begin together, and the mean loss."""
    group.mean(torch.zeros((), device=group.device))
    began = time.perf_counter()
    loss = engine.step(token_ids)
    mean = group.mean(torch.tensor(loss, device=group.device))
    return time.perf_counter() - began, float(mean)


def measure(options: argparse.Namespace) -> dict[str, Any] | None:
    """Run on every rank; return the result on rank 0."""
    if options.backend == "gloo":
        torch.set_num_threads(1)
    with open_group(options.backend, 300.0) as group:
        facts = accounts(options, group)
        engines = {"ours": ours(options, group), "fsdp2": theirs(options, group)}
        batch = tokens(options, group, 0)
        for engine in engines.values():
            engine.step(batch)  # makes the moments
        peaks = dict.fromkeys(engines, sys.maxsize)
        for _ in range(TRIES):
            for name, engine in engines.items():
                at_rest = engine.held_bytes()
                above = peak_above(partial(engine.step, batch), group.device)
                peaks[name] = min(peaks[name], at_rest + above)
        times: dict[str, list[float]] = {name: [] for name in engines}
        gaps: list[float] = []
        for step in range(WARM_STEPS + options.rounds):
            group.step = step
            batch = tokens(options, group, step + 1)
            losses = {}
            for name in ("ours", "fsdp2") if step % 2 else ("fsdp2", "ours"):
                seconds, losses[name] = timed(engines[name], batch, group)
                if step >= WARM_STEPS:
                    times[name].append(seconds)
            gaps.append(abs(losses["ours"] - losses["fsdp2"]))
        if group.rank:
            return None
        medians = {name: statistics.median(values) for name, values in times.items()}
        ratios = [a / b for a, b in zip(times["ours"], times["fsdp2"], strict=True)]
        return {
            "data": "random tokens (synthetic)",
            "backend": group.backend,
            "ranks": group.world_size,
            "threads_per_rank": torch.get_num_threads(),
            "load_average": round(os.getloadavg()[0], 1),
            "seed": 0,
            "options": {k: v for k, v in vars(options).items() if k != "table"},
            **facts,
            "rounds": options.rounds,
            "median_step_ms": {name: round(1000 * value, 1) for name, value in medians.items()},
            "ratio_of_medians": round(medians["ours"] / medians["fsdp2"], 3),
            "median_of_ratios": round(statistics.median(ratios), 3),
            "ratio_quartiles": [round(q, 3) for q in statistics.quantiles(ratios, n=4)],
            "peak_bytes_of_rank_0_in_a_whole_step": peaks,
            "largest_gap_of_losses": float(f"{max(gaps):.2g}"),
        }


def render(result: dict[str, Any]) -> str:
    """Return the chapter's tables as Markdown."""
    memory, moved = result["memory"], result["bytes_moved"]
    lines = ["| bytes of one rank | formula | measured |", "|---|---|---|"]
    for name in ("masters", "gradients", "moments", "peak"):
        lines.append(f"| {name} | {memory['formula'][name]:,} | {memory['measured'][name]:,} |")
    lines += ["", "| bytes moved by one rank in a step | formula | counted |", "|---|---|---|"]
    for name in ("all_gather", "reduce_scatter"):
        lines.append(f"| {name} | {moved['formula'][name]:,} | {moved['per_step'][name]:,} |")
    lines += ["", "| | ours | FSDP2 | ours / FSDP2 |", "|---|---|---|---|"]
    ms, peaks = result["median_step_ms"], result["peak_bytes_of_rank_0_in_a_whole_step"]
    lines.append(f"| step, median, ms | {ms['ours']} | {ms['fsdp2']} | {result['ratio_of_medians']} |")
    ratio = peaks["ours"] / peaks["fsdp2"]
    lines.append(f"| peak, activations too, bytes | {peaks['ours']:,} | {peaks['fsdp2']:,} | {ratio:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Start the ranks if torchrun has not, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", choices=("gloo", "nccl"), default="gloo", help="nccl: one GPU a rank")
    parser.add_argument("--ranks", type=int, default=2, help="started here when torchrun has not")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="fp32", help="of the forward pass")
    parser.add_argument("--dim", type=int, default=384, help="C, a multiple of 64")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--vocab", type=int, default=4099, help="V; odd, so that no rank count divides it")
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4, help="samples of a rank")
    parser.add_argument("--rounds", type=int, default=30, help="timed pairs of steps")
    parser.add_argument("--prefetch", type=int, default=1, help="units asked for ahead, ours")
    parser.add_argument("--table", action="store_true", help="print the chapter's tables and measure nothing")
    options = parser.parse_args()
    if options.table:
        print(render(json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))))
    elif "RANK" in os.environ:
        if (result := measure(options)) is not None:
            write_result(NAME, result, suffix="" if options.backend == "gloo" else "_cuda")
    else:
        raise SystemExit(start_ranks(NAME, options.ranks))


if __name__ == "__main__":
    main()
