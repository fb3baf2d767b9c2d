"""How fast does a GPU decode one sequence, by CUDA graphs and by Python's loop? And in 4 bits?

Batch 1, greedy, random weights in bfloat16 (speed does not depend on them), a prompt of 16 tokens. 124M:
GPT-2's shape; the loop over next_logits, graphs as `generate` uses them (each token's logits go to the
host), graphs that feed their own choice, the same fused by torch.compile first; goals: graphs 5 times the
loop, 2,500 tokens/s. 1.1B: TinyLlama's shape (22 layers of 2048, four groups of keys); graphs in bfloat16
and with W packed in 4 bits (W4A16, groups of 128, nearest), goal 1.8 times. The sides take turns, a turn is
--tokens tokens; medians. S0's 180 tokens/s on an A10 names no model and no batch, so it is no goal here.

    python -m benchmarks.graphed_decode                   (a CUDA device; some four minutes by estimate)
    TRITON_INTERPRET=1 python -m benchmarks.graphed_decode --device cpu --toy      (any machine; seconds)

Needs torch, triton, numpy and tiktoken alone. A rehearsal shows that the program runs; its times mean
nothing and are not kept.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from benchmarks.gpu_clock import device_or_exit
from benchmarks.result_file import write_result
from gpt.generate.engine import next_logits
from gpt.generate.graphed_decode import GraphedDecode
from gpt.model.config import ModelConfig
from gpt.model.kv_cache import KVCache
from gpt.model.presets import preset
from gpt.model.transformer import Transformer
from gpt.quantize.config import QuantizeConfig
from gpt.quantize.methods import quantize_nearest

SEED, PROMPT = 1, list(range(16))
BILLION = ModelConfig(
    vocab_size=32000, max_seq_len=1024, dim=2048, n_layers=22, n_heads=32, n_kv_heads=4, ffn_dim=5632,
    tie_embeddings=False,
)  # fmt: skip
TOY: dict[str, Any] = {
    "dim": 128,
    "n_layers": 2,
    "n_heads": 2,
    "n_kv_heads": 2,
    "vocab_size": 512,
    "ffn_dim": 256,
}
NEAREST = QuantizeConfig(
    method="nearest", group_size=128, scale="absmax", act_order=False, damping=0.01, n_calibration=1,
    seq_len=16, log_fraction=0.0, n_test=1, seed=SEED,
)  # fmt: skip
GOALS = {"graphs_over_loop": 5.0, "graphs_tokens_per_s": 2500.0, "w4a16_over_bf16": 1.8}
Side = Callable[[int], None]


def made(config: ModelConfig, device: str) -> Transformer:
    """Return a model of random weights in bfloat16."""
    torch.manual_seed(SEED)
    with torch.device(device):
        return Transformer(config).bfloat16().eval().requires_grad_(False)


def read_prompt(model: Transformer, device: str) -> KVCache:
    """Return a cache that holds the prompt."""
    cache = KVCache(model.config, 1, device=device, dtype=model.embed.weight.dtype)
    next_logits(model, torch.tensor([PROMPT], device=device), cache)
    return cache


def loop(model: Transformer, device: str) -> Side:
    """Python's loop."""
    cache = read_prompt(model, device)

    def decode(n_tokens: int) -> None:
        cache.length, token = len(PROMPT), 1
        for _ in range(n_tokens):
            logits = next_logits(model, torch.tensor([[token]], device=device), cache)
            token = int(logits.argmax())

    return decode


def graphs(model: Transformer, device: str, *, on_host: bool, compiled: bool = False) -> Side:
    """Graphs; the logits of each token on the host, or none."""
    cache = read_prompt(model, device)
    graphed = GraphedDecode(model, cache, compiled=compiled)

    def decode(n_tokens: int) -> None:
        cache.length, token = len(PROMPT), 1
        for _ in range(n_tokens):
            if on_host:
                token = int(graphed.logits(token).argmax())
            else:
                graphed.step()

    return decode


def turns(sides: dict[str, Side], n_tokens: int, rounds: int, device: str) -> dict[str, Any]:
    """Return each side's median tokens/s and its standard error."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, decode in sides.items():
            started = time.perf_counter()
            decode(n_tokens)
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:  # the first records, compiles and chooses tiles
                speeds[name].append(n_tokens / (time.perf_counter() - started))
    return {
        name: {
            "tokens_per_s": round(statistics.median(each), 1),
            "se": round(1.25 * statistics.stdev(each) / len(each) ** 0.5, 1),
        }
        for name, each in speeds.items()
    }


def main() -> None:
    """Measure both sizes and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--toy", action="store_true", help="toy sizes; writes no result")
    args = parser.parse_args()
    device = device_or_exit(args.device, "graphed_decode")
    if device == "cpu" and not args.toy:
        parser.error("--device cpu is for rehearsals: add --toy")
    small, large = preset("gpt2-124m"), BILLION
    if args.toy:
        small, large = replace(small, **TOY), replace(large, **TOY)
    n_tokens, rounds = (8, 2) if args.toy else (args.tokens, args.rounds)
    model = made(small, device)
    sides = {
        "loop": loop(model, device),
        "graphs, logits on the host": graphs(model, device, on_host=True),
        "graphs": graphs(model, device, on_host=False),
        "graphs, compiled": graphs(model, device, on_host=False, compiled=True),
    }
    found = {"124m": turns(sides, n_tokens, rounds, device)}
    del model, sides
    model, packed = made(large, device), made(large, device)
    quantize_nearest(packed, NEAREST)
    sides = {
        "bf16": graphs(model, device, on_host=False),
        "w4a16": graphs(packed, device, on_host=False),
    }
    parameters = sum(p.numel() for p in model.parameters())
    found["1.1b"] = turns(sides, n_tokens, rounds, device)
    speed = {name: row["tokens_per_s"] for rows in found.values() for name, row in rows.items()}
    result = {
        "tokens": n_tokens,
        "rounds": rounds,
        "data": "random weights (synthetic)",
        "seed": SEED,
        "parameters": parameters,
        "goals": GOALS,
        "graphs_over_loop": round(speed["graphs, logits on the host"] / speed["loop"], 3),
        "graphs_tokens_per_s": speed["graphs, logits on the host"],
        "w4a16_over_bf16": round(speed["w4a16"] / speed["bf16"], 3),
        "found": found,
    }
    if args.toy:
        print(result)
        return
    write_result("graphed_decode", result)


if __name__ == "__main__":
    main()
