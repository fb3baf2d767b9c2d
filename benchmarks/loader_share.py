"""What share of a training step is its batch, on a billion tokens? And how soon is the first batch there?

`python -m benchmarks.loader_share` (4 GB of disk, about two minutes) writes synthetic shards, and the same
tokens as one flat file for nanoGPT's way, then measures: start-up to the first batch out of a cold and a warm
page cache, which is opening the shards with every byte hashed, and out of the flat file unverified; batches a
second beside nanoGPT's way (random places, a new map and two stacks of rows each batch; written here, its
rows are not shuffled), in turns; the wait a step with and without prefetch, the step being a sleep as long as
a GPU's; the start of an epoch's order as an array and as the loader computes it.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.result_file import write_result
from gpt.dataset.loader import STORED_LIMIT, GlobalShuffle, TokenWindows
from gpt.dataset.shard_file import ShardWriter
from gpt.dataset.shard_set import open_shards, write_shard_set
from gpt.train.prefetch import Prefetch

BATCH, CONTEXT, SEED = 32, 1024, 1
GPU_TOKENS_PER_S = 519_000
"""45% MFU for 124M parameters on one H200: the goal, not a measurement."""
STEP_S = BATCH * CONTEXT / GPU_TOKENS_PER_S
BLOCK = 25
"""Batches of one side before the other has its turn."""
CHUNK = 2**24
"""Tokens of a shard: what 64 MB of English are."""
DOCUMENT = 1024
FACTS: dict[str, Any] = {"n_vocab": 50257, "end_of_text": 50256}
FACTS |= {"tokenizer_fingerprint": "0" * 16, "run": "1" * 16}


def write_tokens(folder: Path, flat: Path, n_tokens: int) -> int:
    """Write random tokens of GPT-2's vocabulary as shards and as a flat file; return the number of shards."""
    block = np.random.default_rng(SEED).integers(50256, size=CHUNK - 1, dtype=np.uint16)
    headers = []
    with flat.open("wb") as file:
        for ordinal, start in enumerate(range(0, n_tokens, CHUNK)):
            ids = np.roll(block, ordinal)[: n_tokens - start - 1]
            writer = ShardWriter(folder, split="train", ordinal=ordinal, **FACTS)
            for at in range(0, len(ids), DOCUMENT):
                writer.add(ids[at : at + DOCUMENT - 1])
            headers.append(writer.finish())
            file.write(ids.tobytes())
        file.flush()
        os.fsync(file.fileno())
    write_shard_set(folder, headers)
    return len(headers)


def drop_from_cache(folder: Path) -> None:
    """Ask the kernel to forget a folder's files; nothing may have them mapped."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(action: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def open_windows(folder: Path) -> TokenWindows:
    """Open and verify the shards, and put the loader on them."""
    return TokenWindows(open_shards(folder, "train", None), CONTEXT, SEED)


def open_flat(path: Path) -> TokenWindows:
    """Map the flat file and put the loader on it: nothing is verified."""
    return TokenWindows(np.memmap(path, dtype=np.uint16, mode="r"), CONTEXT, SEED)


def nanogpt_way(path: Path) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Return a function to a batch of windows at random places, as nanoGPT's training script makes one."""
    generator = torch.Generator().manual_seed(SEED)

    def batch(cursor: int) -> tuple[Tensor, Tensor]:
        tokens = np.memmap(path, dtype=np.uint16, mode="r")
        places = torch.randint(len(tokens) - CONTEXT, (BATCH,), generator=generator).tolist()
        rows = [tokens[at : at + CONTEXT + 1].astype(np.int64) for at in places]
        x = torch.stack([torch.from_numpy(row[:-1]) for row in rows])
        return x, torch.stack([torch.from_numpy(row[1:]) for row in rows])

    return batch


def measure_batches(folder: Path, flat: Path, n_batches: int) -> dict[str, Any]:
    """Time batches of both ways in turns; milliseconds."""
    windows = open_windows(folder)
    sides = {"ours": lambda cursor: windows.batch(cursor, BATCH), "nanogpt_way": nanogpt_way(flat)}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for start in range(0, n_batches, BLOCK):
        for name, batch in sides.items():
            for i in range(start, min(start + BLOCK, n_batches)):
                times[name].append(timed(lambda i=i, batch=batch: batch(i * BATCH)) * 1000)
    found = {}
    for name, values in times.items():
        median = statistics.median(values)
        found[name] = {
            "median_ms": round(median, 3),
            "p99_ms": round(statistics.quantiles(values, n=100)[-1], 3),
            "batches_per_s": round(1000 / statistics.fmean(values)),
            "share_of_a_step_percent": round(median / STEP_S / 10, 3),
        }
    medians = [statistics.median(times[name]) for name in ("nanogpt_way", "ours")]
    return {**found, "n": n_batches, "ratio_of_medians": round(medians[0] / medians[1], 2)}


def measure_waits(folder: Path, n_steps: int) -> dict[str, Any]:
    """Time what a step waits for its batch, read when asked and read ahead, in turns; milliseconds."""
    waits: dict[str, list[float]] = {"when_asked": [], "ahead": []}
    windows = open_windows(folder)
    windows.batch(0, BATCH)  # the order of the epoch is not a step's affair: measure_orders
    for start in range(0, n_steps, BLOCK):
        places = [(i * BATCH, BATCH) for i in range(start, min(start + BLOCK, n_steps))]
        for name in waits:
            order: Iterator[tuple[int, int]] = iter(places)
            source = Prefetch(windows, order, torch.device("cpu")) if name == "ahead" else windows
            for place in places:
                time.sleep(STEP_S)
                waits[name].append(timed(lambda place=place, source=source: source.batch(*place)) * 1000)
            if isinstance(source, Prefetch):
                source.close()
    return {
        name: {
            "median_ms": round(statistics.median(values), 4),
            "max_ms": round(max(values), 3),
            "share_of_a_step_percent": round(statistics.fmean(values) / STEP_S / 10, 4),
        }
        for name, values in waits.items()
    } | {"step_ms": round(STEP_S * 1000, 1), "n": n_steps}


def measure_orders(largest: int) -> list[dict[str, Any]]:
    """Time the first batch's places of an epoch: a stored permutation and what the loader does."""
    rows = []
    for n in (10**6, 10**7, 10**8):
        if n <= largest:
            stored_s = timed(lambda n=n: np.random.default_rng([SEED, 0]).permutation(n))
            ours_s = timed(lambda n=n: GlobalShuffle(n, SEED)(0, BATCH))
            rows.append(
                {
                    "samples": n,
                    "tokens_at_1024": n * CONTEXT,
                    "array_ms": round(stored_s * 1000, 1),
                    "array_mib": round(8 * n / 2**20, 1),
                    "ours_ms": round(ours_s * 1000, 2),
                    "ours_is": "array" if n <= STORED_LIMIT else "computed",
                }
            )
    return rows


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=int, default=10**9)
    parser.add_argument("--batches", type=int, default=2000, help="of each side")
    parser.add_argument("--steps", type=int, default=200, help="sleeping steps of each side")
    parser.add_argument("--largest-order", type=int, default=10**8, help="samples; 10^8 take 800 MB")
    parser.add_argument("--folder", type=Path, help="where the map is written and deleted; else temporary")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder, flat = Path(name) / "shards", Path(name) / "flat" / "tokens.bin"
        folder.mkdir()
        flat.parent.mkdir()
        n_shards = write_tokens(folder, flat, args.tokens)
        start_up = {}
        for cache in ("cold", "warm"):
            if cache == "cold":
                drop_from_cache(folder)
                drop_from_cache(flat.parent)
            start_up[f"verified_{cache}_ms"] = timed(lambda: open_windows(folder).batch(0, BATCH)) * 1000
            start_up[f"unverified_{cache}_ms"] = timed(lambda: open_flat(flat).batch(0, BATCH)) * 1000
        result = {
            "tokens": args.tokens,
            "shards": n_shards,
            "batch": [BATCH, CONTEXT],
            "seed": SEED,
            "gpu_tokens_per_s": GPU_TOKENS_PER_S,
            "gpu_rate_is": "the goal of 45% MFU for 124M on an H200, not measured here",
            "start_up_to_first_batch": {name: round(value, 1) for name, value in start_up.items()},
            "batches_warm": measure_batches(folder, flat, args.batches),
            "wait_per_step": measure_waits(folder, args.steps),
            "orders": measure_orders(args.largest_order),
            "load_average": round(os.getloadavg()[0], 1),
        }
    write_result("loader_share", result)


if __name__ == "__main__":
    main()
