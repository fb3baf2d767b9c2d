"""What does each rung of the ladder reach on tiny Shakespeare, on the whole validation text?

Every rung with the dials of conf/laptop.yaml (one rate for all, C = 64, T = 64) and the same STEPS, on the
first 90% of the characters, as nanoGPT splits them; then the rungs without blocks once more with
LONGER times the steps. For the bigram also what needs no training: its expected start, the table by counting,
and the losses of single batches of the tutorials' size beside the whole.

`--table` prints the result as the markdown of docs/chapters/ladder.md.
Needs tiny Shakespeare (the registry's URL, or RAWGPT_DATA_MIRROR). About ten CPU minutes on one thread.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.ladder_table import render
from benchmarks.result_file import RESULTS, write_result
from benchmarks.tiny_shakespeare import load_text
from gpt.config import load_section
from gpt.ladder import bigram_counts
from gpt.ladder.rungs import RUNGS, make_rung
from gpt.train.climb import Characters, LadderConfig, full_loss, table_of, train_rung
from gpt.train.metrics import JsonlSink

STEPS, LONGER = 2000, 3
SEEDS = {"bigram": 3, "mlp": 3, "single_head": 3, "multi_head": 3, "block": 2}
LONGER_RUNGS = ("mlp", "single_head", "multi_head")
N_TABLES, N_BATCHES = 200, 100_000
QUOTED_START, QUOTED_BATCH = 4.63, 2.35


def measure(rung: str, text: Characters, config: LadderConfig, seeds: int) -> dict[str, Any]:
    """Train a rung with each seed; return its losses over the whole validation text."""
    losses, seconds = [], []
    for seed in range(1, seeds + 1):
        seeded = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))
        started = time.monotonic()
        model, result = train_rung(
            rung, text, seeded, sink=JsonlSink(Path("/dev/null")), device=torch.device("cpu")
        )
        seconds.append(time.monotonic() - started)
        losses.append(full_loss(model, text.val, config.model.context, config.train.micro_batch_size))
    return {
        "rung": rung,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": config.train.steps,
        "tokens": result.tokens,
        "seeds": list(range(1, seeds + 1)),
        "val_losses": [round(loss, 4) for loss in losses],
        "val_loss": round(statistics.mean(losses), 4),
        "standard_error": round(statistics.stdev(losses) / seeds**0.5, 4) if seeds > 1 else None,
        "seconds": round(statistics.median(seconds), 1),
    }


def bigram_by_counting(text: Characters, config: LadderConfig) -> dict[str, Any]:
    """Return everything about the bigram that needs no training."""
    size = text.n_symbols
    seen, held_out = (bigram_counts.count_pairs(ids, size) for ids in (text.train, text.val))
    starts = []
    for seed in range(N_TABLES):
        torch.manual_seed(seed)
        fresh = table_of(make_rung("bigram", size, config.model))
        starts.append(bigram_counts.pair_loss(held_out, fresh))
    counted = {
        k: bigram_counts.pair_loss(held_out, bigram_counts.log_probabilities(seen, k)) for k in (0.1, 1.0)
    }
    table = bigram_counts.log_probabilities(seen, 1.0)
    batches = bigram_counts.batch_losses(text.val, table, n_batches=N_BATCHES, seed=0)
    return {
        "uniform": round(float(np.log(size)), 4),
        "start": {
            "expected": round(bigram_counts.starting_loss(size), 4),
            "n_tables": N_TABLES,
            "mean": round(statistics.mean(starts), 4),
            "standard_deviation": round(statistics.stdev(starts), 4),
            "quoted": QUOTED_START,
        },
        "counted": {f"add-{k:g}": round(loss, 4) for k, loss in counted.items()},
        "lowest_of_any_table": round(bigram_counts.lowest_loss(held_out), 4),
        "single_batches": {
            "table": "add-1",
            "characters": bigram_counts.SAMPLES * bigram_counts.CONTEXT,
            "n": N_BATCHES,
            "seed": 0,
            **{
                name: round(float(np.quantile(batches, q)), 4)
                for name, q in (("min", 0), ("percentile_1", 0.01), ("median", 0.5), ("max", 1))
            },
            "mean": round(float(batches.mean()), 4),
            "quoted": QUOTED_BATCH,
            "share_at_or_below_quoted": round(float((batches <= QUOTED_BATCH).mean()), 4),
        },
    }


def main() -> None:
    """Measure every rung and write the result."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    text = load_text()
    config = load_section(Path("conf/laptop.yaml"), "ladder", LadderConfig)

    def budget(steps: int) -> LadderConfig:
        dials = dataclasses.replace(config.train, steps=steps, eval_every=steps, log_every=steps // 4)
        return dataclasses.replace(config, train=dials)

    rows = [measure(rung, text, budget(STEPS), SEEDS[rung]) for rung in RUNGS]
    longer = [measure(rung, text, budget(STEPS * LONGER), 1) for rung in LONGER_RUNGS]
    write_result(
        "ladder",
        {
            "data": "tinyshakespeare, split 90/10 by position",
            "symbols": text.n_symbols,
            "train_characters": len(text.train),
            "n": len(text.val) - 1,
            "unit": "nats per character",
            "threads": 1,
            "model": dataclasses.asdict(config.model),
            "lr": config.train.optim.lr,
            "bigram": bigram_by_counting(text, config),
            "rows": rows,
            "longer": longer,
        },
    )


if __name__ == "__main__":
    if "--table" in sys.argv:
        print(render(json.loads((RESULTS / "ladder.json").read_text(encoding="utf-8"))))
    else:
        main()
