"""Seconds from a bare process to a validation loss on tiny Shakespeare, characters; the median of 3 seeds.

Each seed is a process of its own with an empty compiler cache, so compilation counts, and so does every
validation over the full split. The clock starts after the imports. Targets: 1.50, 1.48 and 1.4697, the
figure that nanoGPT's README gives for its 10.65M model (3 minutes on an A100).

Beside it, with --nanogpt FOLDER: nanoGPT's tokens/s on this machine in the same run (before and after
the seeds), times the tokens that its 6-layer recipe needs. Those were read from a published run
(karpathy/nanoGPT issue 211: step x 16,384 tokens) and not trained here.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.nanogpt import load_nanogpt
from benchmarks.result_file import RESULTS, write_result
from benchmarks.throughput_against_nanogpt import SHAPES, interleaved, nanogpt_step
from benchmarks.tiny_shakespeare import changed, full_validation, load_text, recipe
from gpt.dataset.loader import TokenWindows
from gpt.model.flops import count_parameters
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.train.loop import train
from gpt.train.metrics import JsonlSink
from gpt.train.objective import next_token

TARGETS = (1.60, 1.50, 1.48, 1.4697)
NANOGPT_TOKENS = {1.60: 750 * 16_384, 1.50: 1250 * 16_384, 1.48: 1750 * 16_384}
"""Of the published curve; it ends at 1.48, and the README's 1.4697 has no step beside it."""


def run_seed(seed: int, steps: int, threads: int, eval_every: int) -> dict:
    """Train once in this process; return the curve as (step, seconds, loss)."""
    started = time.monotonic()
    torch.set_num_threads(threads)
    text = load_text()
    setting = changed(recipe(seed=seed, steps=steps), train={"eval_every": eval_every})
    config = setting.train
    model = Transformer(setting.model)
    init_weights(model, seed, init_std=setting.init_std, zero_residual=setting.zero_residual)
    measure = full_validation(text.val, config.seq_len)
    curve: list[dict[str, float]] = []

    def validate(current: torch.nn.Module) -> float:
        loss = measure(current)
        curve.append({"seconds": round(time.monotonic() - started, 1), "val_loss": round(loss, 4)})
        return loss

    result = train(
        model,
        TokenWindows(text.train, config.seq_len, seed),
        next_token,
        config,
        name=f"seed {seed}",
        validate=validate,
        sink=JsonlSink(Path("/dev/null")),
        device=torch.device("cpu"),
    )
    validated = [row for row in result.history if "val_loss" in row]
    for point, row in zip(curve, validated, strict=True):
        point["step"] = row["step"]
    return {
        "seed": seed,
        "parameters": count_parameters(setting.model).total,
        "characters": result.tokens,
        "val_loss": round(result.val_loss, 4),
        "seconds": curve[-1]["seconds"],
        "curve": curve,
    }


def first_time(curve: list[dict[str, float]], target: float) -> float | None:
    """Return the seconds of the first validation at or below the target."""
    return next((point["seconds"] for point in curve if point["val_loss"] <= target), None)


def table(result: dict) -> str:
    """Return the targets as a Markdown table."""
    lines = [
        "| validation loss | seconds, median | each seed | nanoGPT: fp32, bf16 | ratio: fp32, bf16 |",
        "|---|---|---|---|---|",
    ]
    for row in result["targets"]:
        each = ", ".join("not reached" if s is None else f"{s:.0f}" for s in row["seconds"])
        median = f"{row['median_s']:.0f}" if row["median_s"] else "not by all"
        theirs, ratio = "", ""
        if "nanogpt_fp32_s" in row:
            theirs = f"{row['nanogpt_fp32_s']:,}, {row['nanogpt_bf16_s']:,}"
            ratio = f"{row['ratio_to_nanogpt_fp32']}, {row['ratio_to_nanogpt_bf16']}"
        lines.append(f"| {row['target']} | {median} | {each} | {theirs} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    """Run every seed in a process of its own, nanoGPT's steps before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=640)
    parser.add_argument("--eval-every", type=int, default=80)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--one-seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one_seed is not None:
        print(
            json.dumps(run_seed(arguments.one_seed, arguments.steps, arguments.threads, arguments.eval_every))
        )
        return
    if arguments.table:
        print(table(json.loads((RESULTS / "time_to_loss.json").read_text(encoding="utf-8"))))
        return
    torch.set_num_threads(arguments.threads)
    source = load_nanogpt(arguments.nanogpt) if arguments.nanogpt else None
    runs, rates = [], []

    def measure_nanogpt() -> None:
        if source is not None:
            config, batch = SHAPES["tiny"]
            steps = {
                "fp32": nanogpt_step(source, config, batch, dtype=torch.float32),
                "bf16": nanogpt_step(source, config, batch, dtype=torch.bfloat16),
            }
            rates.append(interleaved(steps, 1, batch * config.max_seq_len))

    measure_nanogpt()
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as cache:
            command = [sys.executable, "-m", "benchmarks.time_to_loss", "--one-seed", str(seed)]
            command += ["--steps", str(arguments.steps), "--threads", str(arguments.threads)]
            command += ["--eval-every", str(arguments.eval_every)]
            done = subprocess.run(
                ["env", f"TORCHINDUCTOR_CACHE_DIR={cache}", *command], stdout=subprocess.PIPE, check=True
            )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
        print({key: runs[-1][key] for key in ("seed", "val_loss", "seconds")}, flush=True)
    measure_nanogpt()

    rows = []
    for target in TARGETS:
        times = [first_time(run["curve"], target) for run in runs]
        reached = [seconds for seconds in times if seconds is not None]
        row: dict = {"target": target, "seconds": times}
        row["median_s"] = statistics.median(reached) if len(reached) == len(runs) else None
        if rates and target in NANOGPT_TOKENS and row["median_s"]:
            for dtype in ("fp32", "bf16"):
                speed = statistics.median(rate[dtype] for rate in rates)
                row[f"nanogpt_{dtype}_s"] = round(NANOGPT_TOKENS[target] / speed)
                row[f"ratio_to_nanogpt_{dtype}"] = round(row[f"nanogpt_{dtype}_s"] / row["median_s"], 1)
        rows.append(row)
    losses = [run["val_loss"] for run in runs]
    write_result(
        "time_to_loss",
        {
            "data": "tiny Shakespeare, characters, 90/10 by position, full validation split",
            "seeds": arguments.seeds,
            "threads": arguments.threads,
            "final_val_loss": {
                "median": statistics.median(losses),
                "mean": round(statistics.mean(losses), 4),
                "standard_error": round(statistics.stdev(losses) / len(losses) ** 0.5, 4)
                if len(losses) > 1
                else None,
            },
            "targets": rows,
            "nanogpt_tokens_per_s": rates,
            "nanogpt_tokens_needed": {str(k): v for k, v in NANOGPT_TOKENS.items()} if rates else None,
            "runs": runs,
        },
    )


if __name__ == "__main__":
    main()
