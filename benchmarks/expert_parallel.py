"""Where should a mixture's experts lie? Four ways to train one model on the same ranks, step by step in turn.

replicated        every rank has all experts; the gradients are averaged
across            each rank has E/W experts, tokens travel by all-to-all; the rest is on every rank
zero3             each rank has 1/W of everything, and borrows
across and zero3  each rank has E/W experts, tokens travel; 1/W of the rest

Same weights, tokens, losses (the routers' balance that of all ranks' tokens), clipping and fused AdamW; on a
CPU one thread a rank. First memory is counted, then rounds of steps are timed, in which the bytes moved are
counted beside the formula. That of the all-to-all is for a balanced load: what travels depends on the router.
Tokens are random (synthetic): what is measured is where the experts lie.

Without torchrun it starts two gloo ranks on this machine, about three minutes. On GPUs:
    torchrun --nproc-per-node 8 -m benchmarks.expert_parallel --backend nccl --device cuda --dim 1024
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
from torch import Tensor

from benchmarks.result_file import RESULTS, write_result
from benchmarks.start_ranks import start_ranks
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.loss import mean_loss
from gpt.model.moe import router_losses
from gpt.model.transformer import Transformer
from gpt.parallel.expert_replicas import Replicas
from gpt.parallel.expert_spread import balance_over_ranks, spread_experts
from gpt.parallel.memory import TRIES, peak_above
from gpt.parallel.process_group import ProcessGroup, open_group
from gpt.parallel.zero3 import Zero3, shard_zero3

NAME = "expert_parallel"
WAYS = ("replicated", "across", "zero3", "across and zero3")
COLLECTIVES = ("reduce_scatter", "all_gather", "all_to_all")
BALANCE, MAX_NORM = 0.01, 1.0
WARM_STEPS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """One way to train: the model over ranks, its optimizer, and what it should cost."""

    trained: Replicas | Zero3
    optimizer: torch.optim.Optimizer
    at_rest: float
    """Bytes of masters and moments by the formula."""
    moved: dict[str, float]
    """Bytes that a rank moves in a step by the formula, by collective."""

    def step(self, token_ids: Tensor) -> float:
        """Train one step on tokens (B, T + 1); return the rank's loss."""
        logits = self.trained.module(token_ids[:, :-1])
        loss = mean_loss(logits, token_ids[:, 1:]) + BALANCE * router_losses(self.trained.module)[0]
        loss.backward()
        if isinstance(self.trained, Replicas):
            self.trained.average_gradients()
        self.trained.clip_grad_norm(MAX_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def held_bytes(self) -> int:
        """Return the bytes of masters and moments."""
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        tensors = [parameter.detach() for parameter in self.trained.parameters()] + states
        return sum({s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in tensors)}.values())


def make_model(options: argparse.Namespace) -> Transformer:
    """Return the model, the same weights on every rank and for every way."""
    config = ModelConfig(
        vocab_size=options.vocab,
        max_seq_len=options.seq_len,
        dim=options.dim,
        n_layers=options.layers,
        n_heads=options.dim // 64,
        n_kv_heads=options.dim // 64,
        ffn_dim=options.dim * 2,
        qk_norm=True,
        n_experts=options.experts,
        n_experts_per_token=options.chosen,
    )
    model = Transformer(config)
    init_weights(model, 0)
    return model


def make_way(name: str, options: argparse.Namespace, group: ProcessGroup) -> Way:
    """Return a model over ranks in one of the ways."""
    model = make_model(options)
    blocks, is_across = list(model.blocks), "across" in name
    n_experts = sum(p.numel() for n, p in model.named_parameters() if ".experts_" in n)
    n_rest = sum(p.numel() for p in model.parameters()) - n_experts
    n_block = sum(p.numel() for p in blocks[-1].parameters())
    if is_across:
        spread_experts(model, group)
        n_block -= n_experts // len(blocks)
    else:
        balance_over_ranks(model, group)
        n_rest, n_experts = n_rest + n_experts, 0
    share, moved = (group.world_size - 1) / group.world_size, dict.fromkeys(COLLECTIVES, 0.0)
    per_rank = n_experts / group.world_size
    trained: Replicas | Zero3
    if "zero3" in name:
        trained = shard_zero3(model, blocks, group, fp32_endings=("router.weight",))
        n_root = n_rest - len(blocks) * n_block
        moved["all_gather"] = 4 * share * (2 * n_rest - n_root - n_block)
        per_rank += n_rest / group.world_size
    else:
        trained = Replicas(model, group)
        moved["all_gather"] = 4 * share * n_rest
        per_rank += n_rest
    moved["reduce_scatter"] = 4 * share * n_rest
    if is_across:
        assignments = options.batch * (options.seq_len - 1) * options.chosen
        moved["all_to_all"] = 4 * len(blocks) * share * assignments * options.dim * 4
    return Way(
        trained=trained,
        optimizer=torch.optim.AdamW(trained.parameters(), lr=1e-3, fused=True),
        at_rest=12 * per_rank,
        moved=moved,
    )


def tokens(options: argparse.Namespace, group: ProcessGroup, step: int) -> Tensor:
    """Return a rank's random tokens (B, T + 1) of a step."""
    generator = torch.Generator().manual_seed((step + 1) * group.world_size + group.rank)
    shape = (options.batch, options.seq_len)
    return torch.randint(0, options.vocab, shape, generator=generator).to(group.device)


def timed(step: Callable[[Tensor], float], token_ids: Tensor, group: ProcessGroup) -> tuple[float, float]:
    """Return the seconds of a step that all ranks begin together, and the mean loss."""
    group.mean(torch.zeros((), device=group.device))
    began = time.perf_counter()
    loss = step(token_ids)
    mean = group.mean(torch.tensor(loss, device=group.device))
    return time.perf_counter() - began, float(mean)


def rounds(ways: dict[str, Way], options: argparse.Namespace, group: ProcessGroup) -> dict[str, Any]:
    """Time rounds of steps, each way once a round, beginning with another one each time."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    moved = {name: dict.fromkeys(COLLECTIVES, 0) for name in ways}
    gaps: list[float] = []
    for step in range(WARM_STEPS + options.rounds):
        group.step = step
        batch, losses = tokens(options, group, step + 1), []
        for i in range(len(WAYS)):
            name = WAYS[(step + i) % len(WAYS)]
            group.bytes_moved.clear()
            seconds, loss = timed(ways[name].step, batch, group)
            losses.append(loss)
            if step >= WARM_STEPS:
                times[name].append(seconds)
                for collective in COLLECTIVES:
                    moved[name][collective] += group.bytes_moved[collective]
        gaps.append(max(losses) - min(losses))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "rounds": options.rounds,
        "median_step_ms": {name: round(1000 * value, 1) for name, value in medians.items()},
        "standard_error_of_the_mean_ms": {
            name: round(1000 * statistics.stdev(values) / len(values) ** 0.5, 1)
            for name, values in times.items()
        },
        "times_replicated": {name: round(m / medians["replicated"], 3) for name, m in medians.items()},
        "bytes_moved_per_step": {
            name: {
                "formula": {key: round(value) for key, value in ways[name].moved.items()},
                "counted": {key: round(value / options.rounds) for key, value in moved[name].items()},
            }
            for name in ways
        },
        "largest_gap_of_losses": float(f"{max(gaps):.2g}"),
    }


def measure(options: argparse.Namespace) -> dict[str, Any] | None:
    """Run on every rank; return the result on rank 0."""
    if options.backend == "gloo":
        torch.set_num_threads(1)
    with open_group(options.backend, 300.0) as group:
        ways = {name: make_way(name, options, group) for name in WAYS}
        batch = tokens(options, group, 0)
        for way in ways.values():
            way.step(batch)  # makes the moments
        at_rest = {name: way.held_bytes() for name, way in ways.items()}
        peaks = dict.fromkeys(ways, sys.maxsize)
        for _ in range(TRIES):
            for name, way in ways.items():
                peaks[name] = min(
                    peaks[name], at_rest[name] + peak_above(partial(way.step, batch), group.device)
                )
        timings = rounds(ways, options, group)
        if group.rank:
            return None
        return {
            "data": "random tokens (synthetic)",
            "backend": group.backend,
            "ranks": group.world_size,
            "threads_per_rank": torch.get_num_threads(),
            "load_average": round(os.getloadavg()[0], 1),
            "seed": 0,
            "options": {k: v for k, v in vars(options).items() if k != "table"},
            "n_parameters": sum(p.numel() for p in make_model(options).parameters()),
            "tokens_per_step": options.batch * (options.seq_len - 1) * group.world_size,
            "bytes_at_rest_of_rank_0": {
                name: {"formula": round(way.at_rest), "measured": at_rest[name]} for name, way in ways.items()
            },
            "peak_bytes_of_rank_0_in_a_whole_step": peaks,
            **timings,
        }


def render(result: dict[str, Any]) -> str:
    """Return the chapter's tables as Markdown."""
    held, peaks = result["bytes_at_rest_of_rank_0"], result["peak_bytes_of_rank_0_in_a_whole_step"]
    lines = [
        "| bytes of one rank | at rest, formula | measured | peak, activations too |",
        "|---|---|---|---|",
    ]
    for name in WAYS:
        both = f"{held[name]['formula']:,} | {held[name]['measured']:,}"
        lines.append(f"| {name} | {both} | {peaks[name]:,} |")
    lines += [
        "",
        "| bytes moved by one rank in a step | by | formula | counted |",
        "|---|---|---|---|",
    ]
    for name in WAYS:
        moved = result["bytes_moved_per_step"][name]
        for collective in COLLECTIVES:
            if moved["formula"][collective]:
                both = f"{moved['formula'][collective]:,} | {moved['counted'][collective]:,}"
                lines.append(f"| {name} | {collective} | {both} |")
    lines += ["", "| | step, median, ms | standard error | times replicated |", "|---|---|---|---|"]
    errors = result["standard_error_of_the_mean_ms"]
    for name in WAYS:
        row = f"{result['median_step_ms'][name]} | {errors[name]} | {result['times_replicated'][name]}"
        lines.append(f"| {name} | {row} |")
    return "\n".join(lines)


def main() -> None:
    """Start the ranks if torchrun has not, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", choices=("gloo", "nccl"), default="gloo")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda with nccl: a GPU a rank"
    )
    parser.add_argument("--ranks", type=int, default=2, help="started here when torchrun has not")
    parser.add_argument("--experts", type=int, default=8, help="E, a multiple of the ranks")
    parser.add_argument("--chosen", type=int, default=2, help="K, experts of a token")
    parser.add_argument("--dim", type=int, default=256, help="C, a multiple of 64")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=4099, help="V; odd, so that no rank count divides it")
    parser.add_argument("--seq-len", type=int, default=129, help="tokens of a sample, the last a target only")
    parser.add_argument("--batch", type=int, default=4, help="samples of a rank")
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each way")
    parser.add_argument("--table", action="store_true", help="print the chapter's tables and measure nothing")
    options = parser.parse_args()
    if (options.backend == "nccl") != (options.device == "cuda"):
        parser.error(f"--device {options.device}: nccl goes with cuda, gloo with cpu")
    if options.table:
        print(render(json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))))
    elif "RANK" in os.environ:
        if (result := measure(options)) is not None:
            write_result(NAME, result, suffix="" if options.backend == "gloo" else "_cuda")
    else:
        raise SystemExit(start_ranks(NAME, options.ranks))


if __name__ == "__main__":
    main()
