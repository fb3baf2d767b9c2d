"""How fast does SmolLM2-135M decode and read on this CPU in 4 bits, beside itself in floats and llama.cpp?

    RAWGPT_DATA_MIRROR=... python -m benchmarks.cpu_int4_decode --peers-python .venv-peers/bin/python
    python -m benchmarks.cpu_int4_decode --table        (prints docs/chapters/cpu_int4.md's tables)

Weights: the registry's Q4_1 file, made float, its linears rounded to 4 bits, groups of 64; llama.cpp has the
file as it is. Batch 1, greedy, `--threads` threads. Decoding is `--tokens` tokens behind a prompt of 16,
each a forward pass through the KV cache and an argmax over all logits; reading is one pass over 500 tokens
and the logits of the last. The sides take turns, `--rounds` times, the first not counted; what is stated is
the median and its standard error (1.25 sd / sqrt n), wall-clock; llama.cpp's are its own timings of a
request. The bandwidth is that of reading a buffer of the packed weights' size with the same threads, in
the same turns, and the bound is what decoding would be if reading the packed weights once a token were
all. Quality: nats a token over windows of textbooks (openstax), each way against the packed reference, the
errors paired. About 3 minutes on two quiet cores; on busy ones take --threads 1, since threads that wait for
each other lose their turn.
"""

import argparse
import bz2
import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.result_file import RESULTS, write_result
from gpt.catalog.open_model import OpenModel, open_model
from gpt.catalog.registry_models import fetch_model
from gpt.config import load_section
from gpt.corpus.registry import fetch
from gpt.generate.engine import next_logits
from gpt.model.kv_cache import KVCache
from gpt.model.transformer import Transformer
from gpt.quantize.config import QuantizeConfig
from gpt.quantize.cpu_model import RuntimeLinear, prepare_for_cpu
from gpt.quantize.methods import quantize_nearest

NAME, GROUP, PROMPT, LONG, SEED = "smollm2-135m", 64, 16, 500, 0
FORMS: dict[str, tuple[str, str]] = {
    "ours, int4, int8 head": ("c", "int8"),
    "ours, int4, int4 head": ("c", "int4"),
    "ours, int4, fp32 head": ("c", "float"),
    "torch's int4 operator, fp32 head": ("torch", "float"),
    "reference int4, fp32 head": ("reference", "float"),
}
PEER = "llama.cpp, Q4_1 file"
SLOW = "reference int4, fp32 head"
"""Unpacks every weight for every token: two tokens a turn are enough."""
OURS = "ours, int4, int8 head"
ONE = ", one thread"
"""Two virtual cores may be slower than one where threads meet often: each side is shown at its best."""
ALONE = (OURS, "torch's int4 operator, fp32 head")


def weight_bytes(model: Transformer) -> int:
    """Bytes of all weights as they lie in memory, a tied head counted once."""
    tensors = {id(t): t.nbytes for t in [*model.parameters(), *model.buffers()]}
    return sum(tensors.values()) + sum(
        m.weights.nbytes for m in model.modules() if isinstance(m, RuntimeLinear)
    )


def packed_bytes(model: Transformer) -> int:
    """Bytes that a token must read at the least: the packed linears and the head."""
    packed = sum(m.weights.nbytes for m in model.modules() if isinstance(m, RuntimeLinear))
    return packed if isinstance(model.lm_head, RuntimeLinear) else packed + model.lm_head.weight.nbytes


def models_of(opened: OpenModel) -> dict[str, Transformer]:
    """Every side that is ours or torch's, by name."""
    plain = opened.model
    packed = copy.deepcopy(plain)
    with torch.no_grad():
        dials = load_section(Path("params.yaml"), "quantize", QuantizeConfig)
    quantize_nearest(packed, replace(dials, group_size=GROUP))
    sides = {}
    for name, (backend, head) in FORMS.items():
        sides[name] = copy.deepcopy(packed)
        prepare_for_cpu(sides[name], backend=backend, head=head)  # type: ignore[arg-type]
    sides["ours, bf16"] = copy.deepcopy(plain).bfloat16()
    sides["ours, fp32"] = plain
    return sides


def our_decode(model: Transformer, ids: list[int], n_tokens: int) -> float:
    """Tokens a second behind the prompt."""
    config = replace(model.config, max_seq_len=len(ids) + n_tokens)
    cache = KVCache(config, 1, dtype=model.embed.weight.dtype)
    token = int(next_logits(model, torch.tensor([ids]), cache).argmax())
    start = time.perf_counter()
    for _ in range(n_tokens):
        token = int(next_logits(model, torch.tensor([[token]]), cache).argmax())
    return n_tokens / (time.perf_counter() - start)


def our_prefill(model: Transformer, ids: list[int]) -> float:
    """Tokens of the prompt a second."""
    cache = KVCache(replace(model.config, max_seq_len=len(ids)), 1, dtype=model.embed.weight.dtype)
    start = time.perf_counter()
    next_logits(model, torch.tensor([ids]), cache)
    return len(ids) / (time.perf_counter() - start)


class LlamaCpp:
    """The peer in its own process."""

    def __init__(self, python: str, threads: int) -> None:
        command = [python, "benchmarks/llama_cpp_timings.py", str(fetch_model(NAME).resolve()), str(threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, ids: list[int], n_tokens: int) -> dict[str, float]:
        """Return llama.cpp's timings of a request."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"prompt": ids, "n": n_tokens}) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("timings "):
                return json.loads(line.removeprefix("timings "))
        raise RuntimeError("llama.cpp ended; run benchmarks/llama_cpp_timings.py by hand to see why")

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def middle(values: list[float]) -> dict[str, float]:
    """Median and its standard error."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"median": statistics.median(values), "se": 1.25 * spread / len(values) ** 0.5, "n": len(values)}


def speeds(
    sides: dict[str, Transformer], peers: dict[str, LlamaCpp], ids: list[int], args: Any
) -> dict[str, Any]:
    """Measure all sides in turns."""
    alone = [name + ONE for name in ALONE] if args.threads > 1 else []
    decode: dict[str, list[float]] = {name: [] for name in [*sides, *alone, *peers]}
    prefill: dict[str, list[float]] = {name: [] for name in decode}
    bandwidth: list[float] = []
    buffer = torch.zeros(packed_bytes(sides[OURS]) // 8, dtype=torch.int64)
    for turn in range(args.rounds + 1):
        found = {}
        for name, model in sides.items():
            n_tokens = 2 if name == SLOW else args.tokens
            found[name] = (our_decode(model, ids[:PROMPT], n_tokens), our_prefill(model, ids))
        torch.set_num_threads(1)
        for name in alone:
            model = sides[name.removesuffix(ONE)]
            found[name] = (our_decode(model, ids[:PROMPT], args.tokens), our_prefill(model, ids))
        torch.set_num_threads(args.threads)
        for name, peer in peers.items():
            decoded = peer.ask(ids[:PROMPT], args.tokens)["predicted_per_second"]
            found[name] = (decoded, peer.ask(ids, 1)["prompt_per_second"])
        start = time.perf_counter()
        for _ in range(20):
            buffer.max()
        told = {name: [round(x, 1) for x in pair] for name, pair in found.items()}
        print(turn, told, file=sys.stderr, flush=True)
        if turn:  # the first warms caches and pages
            bandwidth.append(20 * buffer.nbytes / (time.perf_counter() - start))
            for name, (decoded, read) in found.items():
                decode[name].append(decoded)
                prefill[name].append(read)
    rows = [
        {
            "side": name,
            "decode": middle(decode[name]),
            "prefill": middle(prefill[name]),
            "weight_bytes": fetch_model(NAME).stat().st_size
            if name in peers
            else weight_bytes(sides[name.removesuffix(ONE)]),
            "read_bytes": packed_bytes(sides[name]) if name in FORMS else None,
        }
        for name in decode
    ]
    return {"rows": rows, "read_bytes_per_second": middle(bandwidth)}


def quality(sides: dict[str, Transformer], windows: Tensor) -> list[dict[str, Any]]:
    """Mean nats a token of each side over windows (n, T), and its differences from the packed reference."""
    nats: dict[str, list[float]] = {}
    for name in [*FORMS, "ours, fp32"]:
        with torch.inference_mode():
            logits: Callable[[Tensor], Tensor] = sides[name]
            nats[name] = [
                float(torch.nn.functional.cross_entropy(logits(row[None])[0, :-1].float(), row[1:]))
                for row in windows
            ]
    rows = []
    for name, values in nats.items():
        apart = [a - b for a, b in zip(values, nats[SLOW], strict=True)]
        rows.append(
            {
                "side": name,
                "nats": statistics.mean(values),
                "above_reference": statistics.mean(apart),
                "se": statistics.stdev(apart) / len(apart) ** 0.5,
            }
        )
    return rows


def text_windows(opened: OpenModel, n: int, length: int) -> Tensor:
    """Windows of n different textbooks' sections, (n, length)."""
    rows = []
    with bz2.open(fetch("openstax"), "rt", encoding="utf-8") as lines:
        for line in lines:
            ids = opened.tokenizer.encode(json.loads(line)["text"][: 12 * length])
            if len(ids) >= length:
                rows.append(ids[:length])
            if len(rows) == n:
                return torch.tensor(rows)
    raise ValueError(f"--windows: openstax has {len(rows)} sections of {length} tokens; ask for fewer")


def table(result: dict[str, Any]) -> str:
    """Return the chapter's tables."""
    bound = result["read_bytes_per_second"]["median"]
    by_name = {row["side"]: row for row in result["rows"]}
    lines = [
        "| | decode tokens/s | of the bound | prefill tokens/s | weights MB | first row's times this |",
        "|---|---|---|---|---|---|",
    ]
    ours = by_name[OURS]
    for row in result["rows"]:
        share = f"{row['decode']['median'] * row['read_bytes'] / bound:.0%}" if row["read_bytes"] else ""
        times = [ours[what]["median"] / row[what]["median"] for what in ("decode", "prefill")]
        cells = [
            row["side"],
            f"{row['decode']['median']:.1f} ± {row['decode']['se']:.1f}",
            share,
            f"{row['prefill']['median']:.0f} ± {row['prefill']['se']:.0f}",
            f"{row['weight_bytes'] / 1e6:.0f}",
            f"{times[0]:.2f}x, {times[1]:.2f}x",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| | nats a token | above the reference |", "|---|---|---|"]
    for row in result["quality"]:
        lines.append(
            f"| {row['side']} | {row['nats']:.4f} | {row['above_reference']:+.4f} ± {row['se']:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and write the result, or print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers-python", help="the Python of an environment with xllamacpp")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--table", action="store_true", help="print the tables of the result there is")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads((RESULTS / "cpu_int4_decode.json").read_text(encoding="utf-8"))))
        return
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    opened = open_model(NAME)
    sides = models_of(opened)
    ids = torch.randint(1000, 40000, (LONG,)).tolist()
    counts = {PEER: args.threads} | ({PEER + ONE: 1} if args.threads > 1 else {})
    peers = {name: LlamaCpp(args.peers_python, n) for name, n in counts.items() if args.peers_python}
    measured = speeds(sides, peers, ids, args)
    for peer in peers.values():
        peer.close()
    write_result(
        "cpu_int4_decode",
        {
            "question": __doc__.splitlines()[0],
            "threads": args.threads,
            "prompt": PROMPT,
            "tokens": args.tokens,
            "prefill": LONG,
            "group_size": GROUP,
            "seed": SEED,
            **measured,
            "quality_tokens": args.windows * LONG,
            "quality": quality(sides, text_windows(opened, args.windows, LONG)),
        },
    )


if __name__ == "__main__":
    main()
