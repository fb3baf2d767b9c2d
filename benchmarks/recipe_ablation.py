"""What does each part of the recipe bring? One change at a time, a fixed number of characters, 3 seeds.

Tiny Shakespeare, characters (benchmarks/tiny_shakespeare.py). Every run has the same number of steps, so
a change that costs time is flattered; `seconds` are CPU seconds of the process and comparable roughly. Every
finished run is written at once: the same command goes on where it was stopped. One run is about two CPU
minutes; `--changes` picks some, `--seeds` and `--steps` set the size. `--table` prints the chapter's table.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.result_file import RESULTS, command, machine
from benchmarks.tiny_shakespeare import Recipe, changed, full_validation, load_text, recipe
from gpt.dataset.loader import TokenWindows
from gpt.model.flops import count_parameters
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.train.climb import Characters
from gpt.train.loop import train
from gpt.train.metrics import JsonlSink
from gpt.train.objective import next_token

CHANGES: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "AdamW for all, lr 3e-3": {"optim": {"name": "adamw"}},
    "AdamW for all, lr 1e-3": {"optim": {"name": "adamw", "lr": 1.0e-3}},
    "embeddings at lr 3e-3": {"optim": {"lr": 3.0e-3}},
    "no weight decay": {"optim": {"weight_decay": 0.0}},
    "no token shift": {"model": {"token_shift": False}},
    "no bigram table": {"model": {"bigram_rows": 0}},
    "no value residual": {"model": {"value_residual": False}},
    "no QK-norm": {"model": {"qk_norm": False}},
    "no logit softcap": {"model": {"logit_softcap": 0.0}},
    "norms with gains": {"model": {"norm_gain": True}},
    "squared ReLU, F 1024": {"model": {"activation": "relu2", "ffn_dim": 1024}},
    "GELU, F 1024": {"model": {"activation": "gelu", "ffn_dim": 1024}},
    "learned positions": {"model": {"position": "learned"}},
    "4 heads of 64": {"model": {"n_heads": 4, "n_kv_heads": 4}},
    "tied embeddings": {"model": {"tie_embeddings": True}},
    "dropout 0": {"model": {"dropout": 0.0}},
    "outputs not started at zero": {"zero_residual": False},
    "cosine to 0": {"optim": {"schedule": "cosine"}},
}
PATH = RESULTS / "recipe_ablation.json"


def measure(setting: Recipe, text: Characters) -> dict[str, float]:
    """Train once; return the final validation loss, the last training loss, parameters and CPU seconds."""
    config = setting.train
    torch._dynamo.reset()
    model = Transformer(setting.model)
    init_weights(model, config.seed, init_std=setting.init_std, zero_residual=setting.zero_residual)
    started = time.process_time()
    result = train(
        model,
        TokenWindows(text.train, config.seq_len, config.seed),
        next_token,
        config,
        name=f"seed {config.seed}",
        validate=full_validation(text.val, config.seq_len),
        sink=JsonlSink(Path("/dev/null")),
        device=torch.device("cpu"),
    )
    return {
        "val_loss": round(result.val_loss, 4),
        "parameters": count_parameters(setting.model).total,
        "cpu_s": round(time.process_time() - started, 1),
    }


def summarize(runs: list[dict]) -> list[dict]:
    """Return one row a change: mean, standard error, and the paired difference to the recipe."""
    base = {run["seed"]: run["val_loss"] for run in runs if run["change"] == "the recipe"}
    rows = []
    for change in CHANGES:
        losses = {run["seed"]: run["val_loss"] for run in runs if run["change"] == change}
        if not losses:
            continue
        paired = [losses[seed] - base[seed] for seed in losses if seed in base]
        n = len(losses)
        row = {"change": change, "n": n, "val_loss": round(float(np.mean(list(losses.values()))), 4)}
        if paired and change != "the recipe":
            row["difference"] = round(float(np.mean(paired)), 4)
        if n > 1:
            spread = paired if change != "the recipe" else list(losses.values())
            row["standard_error"] = round(float(np.std(spread, ddof=1) / n**0.5), 4)
        rows.append(row)
    return rows


def table(result: dict) -> str:
    """Return the rows as a Markdown table, the costliest omission first."""
    rows = sorted(result["rows"], key=lambda row: -row.get("difference", 99.0))
    lines = ["| change | validation loss | difference | s.e. | n |", "|---|---|---|---|---|"]
    for row in rows:
        difference = f"{row['difference']:+.4f}" if "difference" in row else "0"
        error = f"{row['standard_error']:.4f}" if "standard_error" in row else "one run"
        lines.append(f"| {row['change']} | {row['val_loss']:.4f} | {difference} | {error} | {row['n']} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--changes", nargs="*", default=list(CHANGES), choices=list(CHANGES), metavar="CHANGE"
    )
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(PATH.read_text(encoding="utf-8"))))
        return
    torch.set_num_threads(arguments.threads)
    text = load_text()
    base = recipe(seed=1, steps=arguments.steps)
    shown = {"steps": arguments.steps, "characters": arguments.steps * base.train.batch_tokens}
    runs: list[dict] = []
    if PATH.exists():
        before = json.loads(PATH.read_text(encoding="utf-8"))
        if before["characters"] != shown["characters"]:
            raise SystemExit(f"--steps: {PATH.name} holds runs of {before['steps']} steps; remove it first")
        runs = before["runs"]
    for seed in range(1, arguments.seeds + 1):
        for change in arguments.changes:
            if any(run["change"] == change and run["seed"] == seed for run in runs):
                continue
            setting = changed(recipe(seed=seed, steps=arguments.steps), **CHANGES[change])
            run = {"change": change, "seed": seed, **measure(setting, text)}
            runs.append(run)
            print(run, flush=True)
            result = {"command": command("recipe_ablation"), "machine": machine()}
            result |= {"data": "tiny Shakespeare, characters", **shown}
            result |= {"rows": summarize(runs), "runs": runs}
            partial = PATH.with_suffix(".json.part")
            partial.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            partial.replace(PATH)


if __name__ == "__main__":
    main()
