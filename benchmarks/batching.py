"""What does the batch engine give: total speed of many streams, a late arrival's wait, a beginning read once?

    python -m benchmarks.batching            some 2 minutes on a quiet machine with 2 cores
    python -m benchmarks.batching --table    print the chapter's tables from the result

Random weights (a token costs the same), fp32, the CPU. Sizes: `laptop` is the architecture that
conf/laptop.yaml pretrains, `s4-tiny` the preset of 10M parameters. Streams: PROMPT tokens each, all arriving
at once, TOKENS generated each at temperature 0.8; the clock runs from the arrival to the last token, prompts
included. `generate` is the loop for one sequence (gpt/generate/engine.py) on one such stream. A late arrival:
BESIDE streams generate, then a long prompt comes and, 5 ms into the step that begins it, a short one; with
the prompt in chunks of CHUNK tokens a step, and whole. A beginning in common: two requests, one after the
other, with SYSTEM tokens in common. Every round measures every way once, in turns; medians over rounds, with
the standard error of the mean of the rounds.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.result_file import RESULTS, write_result
from gpt.catalog.open_model import open_model
from gpt.catalog.registry_models import registry_models
from gpt.config import load_section
from gpt.generate.batch_engine import BatchConfig, BatchEngine
from gpt.generate.config import SamplingConfig
from gpt.generate.engine import generate
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.presets import preset
from gpt.model.transformer import Transformer

NAME = "batching"
STREAMS = (1, 8, 64)
PROMPT, TOKENS = 32, 64
BESIDE, LONG, SHORT, CHUNK, LATE_S = 8, 960, 16, 128, 0.005
SYSTEM, OWN = 512, 16
SEED = 0
Seconds = dict[str, float]


def model_of(size: str) -> Transformer:
    """Return a model of a size, weights drawn from SEED, or one of the registry."""
    if size in registry_models():
        return open_model(size).model
    if size == "laptop":
        config = load_section(Path("conf/laptop.yaml"), "pretrain.model", ModelConfig)
    else:
        config = preset(size)
    model = Transformer(config)
    init_weights(model, SEED)
    return model.eval()


def ids(model: Transformer, n: int, seed: int) -> list[int]:
    """Draw n token ids."""
    draw = random.Random(seed)
    return [draw.randrange(model.config.vocab_size) for _ in range(n)]


def sampling(max_tokens: int, seed: int) -> SamplingConfig:
    """Return the dials of one stream."""
    return SamplingConfig(max_tokens=max_tokens, seed=seed, temperature=0.8)


def streams(model: Transformer, n: int) -> Seconds:
    """Let n streams generate together; n = 0 is `generate` on one."""
    started = time.perf_counter()
    if n == 0:
        for _ in generate(model, ids(model, PROMPT, 0), sampling(TOKENS, 0)):
            pass
        return {"seconds": time.perf_counter() - started}
    engine = BatchEngine(model, BatchConfig())
    started = time.perf_counter()
    for i in range(n):
        engine.submit(ids(model, PROMPT, i), sampling(TOKENS, i))
    while engine.has_work:
        engine.step()
    return {"seconds": time.perf_counter() - started}


def late_arrival(model: Transformer, max_prompt_tokens: int) -> Seconds:
    """Return how long a late short prompt, the long one, and a stream that generates had to wait."""
    engine = BatchEngine(model, BatchConfig(max_prompt_tokens=max_prompt_tokens, reuse_prefixes=False))
    beside = [engine.submit(ids(model, SHORT, i), sampling(1000, i)) for i in range(BESIDE)]
    while any(len(request.token_ids) < 4 for request in beside):
        engine.step()
    long = engine.submit(ids(model, LONG, 100), sampling(1, 0))
    begun = time.perf_counter()
    engine.step()
    short = engine.submit(ids(model, SHORT, 101), sampling(1, 0))
    longest_gap, last = time.perf_counter() - begun, time.perf_counter()
    first: Seconds = {}
    while not (long.token_ids and short.token_ids):
        if long.token_ids:
            first.setdefault("long", last - begun)
        engine.step()
        now = time.perf_counter()
        longest_gap, last = max(longest_gap, now - last), now
        if short.token_ids:
            first.setdefault("late", now - begun - LATE_S)
    return {
        "late request's first token": first["late"],
        "long prompt's first token": first.get("long", last - begun),
        "longest gap between a stream's tokens": longest_gap,
    }


def common_beginning(model: Transformer, reuse: bool) -> Seconds:
    """Return the time to the first token of two requests that begin alike."""
    engine = BatchEngine(model, BatchConfig(max_prompt_tokens=1024, reuse_prefixes=reuse))
    seconds: Seconds = {}
    for name, seed in (("first request", 1), ("second request", 2)):
        started = time.perf_counter()
        request = engine.submit([*ids(model, SYSTEM, 0), *ids(model, OWN, seed)], sampling(1, 0))
        while engine.has_work:
            engine.step()
        seconds[name] = time.perf_counter() - started
        expected = SYSTEM if reuse and seed == 2 else 0
        assert request.n_cached_prompt_tokens == expected, request.n_cached_prompt_tokens
    return seconds


def in_turns(ways: dict[str, Callable[[], Seconds]], rounds: int) -> dict[str, dict[str, Any]]:
    """Run every way once unmeasured and then once a round; return medians and standard errors by way."""
    found: dict[str, list[Seconds]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            seconds = way()
            if turn:
                found[name].append(seconds)
    return {name: {key: summary([s[key] for s in all_]) for key in all_[0]} for name, all_ in found.items()}


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Return median and standard error of the mean, in ms, with what was measured."""
    error = statistics.stdev(seconds) / len(seconds) ** 0.5
    return {
        "median_ms": round(1e3 * statistics.median(seconds), 2),
        "standard_error_ms": round(1e3 * error, 2),
        "all_ms": [round(1e3 * s, 2) for s in seconds],
    }


def measure(sizes: Sequence[str], rounds: int, threads: int) -> dict[str, Any]:
    """Run all three questions."""
    torch.set_num_threads(threads)
    result: dict[str, Any] = {
        "seed": SEED,
        "rounds": rounds,
        "threads": threads,
        "prompt_tokens": PROMPT,
        "generated_tokens": TOKENS,
        "late_arrival": {"beside": BESIDE, "long_prompt": LONG, "short_prompt": SHORT, "chunk": CHUNK},
        "common_beginning": {"tokens_in_common": SYSTEM, "own_tokens": OWN},
        "streams": {},
    }
    for size in sizes:
        model = model_of(size)
        ways = {str(n): lambda n=n: streams(model, n) for n in (0, *STREAMS)}  # noqa: B023
        timed = in_turns(ways, rounds)
        speeds = {
            name: round(1e3 * max(1, int(name)) * TOKENS / timed[name]["seconds"]["median_ms"], 1)
            for name in timed
        }
        result["streams"][size] = {
            "n_parameters": sum(p.numel() for p in model.parameters()),
            "generate_tokens_per_s": speeds.pop("0"),
            "tokens_per_s": speeds,
            "ratio_to_one_stream": {n: round(speeds[n] / speeds["1"], 2) for n in speeds},
            "seconds": timed,
        }
    model = model_of("s4-tiny")
    result["late_arrival"]["ways"] = in_turns(
        {"in chunks": lambda: late_arrival(model, CHUNK), "whole": lambda: late_arrival(model, 4 * LONG)},
        rounds,
    )
    result["common_beginning"]["ways"] = in_turns(
        {"shared": lambda: common_beginning(model, True), "computed": lambda: common_beginning(model, False)},
        rounds,
    )
    return result


def render(result: dict[str, Any]) -> str:
    """Return the chapter's tables as Markdown."""
    lines = ["| size | parameters | `generate`, one stream | 1 stream | 8 streams | 64 streams | 64 over 1 |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for size, row in result["streams"].items():
        speeds = " | ".join(f"{row['tokens_per_s'][str(n)]:,.0f}" for n in STREAMS)
        lines.append(
            f"| {size} | {row['n_parameters'] / 1e6:.1f}M | {row['generate_tokens_per_s']:,.0f} | {speeds} | "
            f"{row['ratio_to_one_stream']['64']:.1f} |"
        )
    for key, title in (("late_arrival", "prompts"), ("common_beginning", "beginning")):
        ways = result[key]["ways"]
        names = list(next(iter(ways.values())))
        lines += [
            "",
            f"| {title} | {' | '.join(f'{name}, ms' for name in names)} |",
            "|---" * (len(names) + 1) + "|",
        ]
        for way, row in ways.items():
            cells = (f"{row[n]['median_ms']:.1f} ± {row[n]['standard_error_ms']:.1f}" for n in names)
            lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write the result, or print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--sizes", nargs="+", default=["laptop", "s4-tiny"], help="or smollm2-135m, by download"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print the chapter's tables and measure nothing")
    options = parser.parse_args()
    if options.table:
        print(render(json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))))
        return
    write_result(NAME, measure(options.sizes, options.rounds, options.threads))


if __name__ == "__main__":
    main()
