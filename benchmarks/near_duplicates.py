"""Which MinHash finds near-duplicates, ours, datasketch or rensa? Recall, precision and documents/s.

    python -m benchmarks.near_duplicates --documents 4000

Documents are passages of about 1,500 characters (of the OpenStax modules where RAWGPT_DATA_MIRROR names
them, of invented words elsewhere); each of the first quarter gets one copy with a share of its words
replaced. The truth is the exact Jaccard of 5-word shingles, computed from sets of tuples. All sides look
for pairs at 0.8 with 128 permutations, in turns; theirs get the same shingles as strings (making them is
part of their time, as hashing is of ours). `ours_unverified` is ours without reading a pair again. About
two minutes. Peers: `pip install --target .deps datasketch==2.0.0 rensa==0.5.0` and PYTHONPATH=.deps.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.result_file import write_result
from gpt.corpus.near_duplicates import N_PERMUTATIONS, band_keys, choose_bands, near_duplicates
from gpt.corpus.text_files import read_records

THRESHOLD, WORDS = 0.8, 5
PASSAGE = 1500
EDITS = (0.002, 0.005, 0.01, 0.02, 0.05)
Search = Callable[[list[str]], set[int]]


def passages(n: int, rng: random.Random) -> tuple[list[str], str]:
    """Return n passages and what they are."""
    path = Path(os.environ.get("RAWGPT_DATA_MIRROR", "/nonexistent")) / "english" / "openstax.jsonl.bz2"
    if not path.is_file():
        words = [f"word{i}" for i in range(20_000)]
        return [" ".join(rng.choices(words, k=220)) for _ in range(n)], "invented words"
    return list(islice(_cut(path), n)), "OpenStax"


def _cut(path: Path) -> Iterator[str]:
    for record in read_records(path):
        text = ""
        for paragraph in record["text"].split("\n\n"):
            text += paragraph + "\n\n"
            if len(text) > PASSAGE:
                yield text
                text = ""


def plant(documents: list[str], rng: random.Random) -> list[str]:
    """Append an edited copy of each of the first quarter."""
    copies = []
    for text in documents[: len(documents) // 4]:
        share = rng.choice(EDITS)
        words = [f"edit{rng.randrange(1000)}" if rng.random() < share else word for word in text.split()]
        copies.append(" ".join(words))
    return documents + copies


def shingles(text: str) -> set[str]:
    """The reference: n-grams of words as strings."""
    kept = "".join(c if c.isalnum() else " " if c not in "'’" else "" for c in text.lower())
    words = kept.split()
    return {" ".join(words[i : i + WORDS]) for i in range(max(len(words) - WORDS + 1, 1))}


def ours(documents: list[str]) -> set[int]:
    keys = band_keys(documents, threshold=THRESHOLD, shingle_words=WORDS)
    at = documents.__getitem__
    return {place for place, _ in near_duplicates(keys, at, threshold=THRESHOLD, shingle_words=WORDS)}


def ours_unverified(documents: list[str]) -> set[int]:
    keys = band_keys(documents, threshold=THRESHOLD, shingle_words=WORDS)
    found: set[int] = set()
    for band in keys.T:
        first = np.full(len(band), True)
        first[np.unique(band, return_index=True)[1]] = False
        found |= set(np.flatnonzero(first).tolist())
    return found


def with_datasketch(documents: list[str]) -> set[int]:
    datasketch = importlib.import_module("datasketch")
    bands, rows = choose_bands(THRESHOLD)
    index = datasketch.MinHashLSH(num_perm=N_PERMUTATIONS, params=(bands, rows))
    found, kept = set(), {}
    for place, text in enumerate(documents):
        sketch = datasketch.MinHash(num_perm=N_PERMUTATIONS)
        sketch.update_batch([s.encode() for s in shingles(text)])
        if any(sketch.jaccard(kept[other]) >= THRESHOLD for other in index.query(sketch)):
            found.add(place)
            continue
        kept[place] = sketch
        index.insert(place, sketch)
    return found


def with_rensa(documents: list[str]) -> set[int]:
    rensa = importlib.import_module("rensa")
    index = rensa.RMinHashLSH(threshold=THRESHOLD, num_perm=N_PERMUTATIONS, num_bands=32)
    found, kept = set(), {}
    for place, text in enumerate(documents):
        sketch = rensa.RMinHash(num_perm=N_PERMUTATIONS, seed=42)
        sketch.update(list(shingles(text)))
        if any(sketch.jaccard(kept[other]) >= THRESHOLD for other in index.query(sketch)):
            found.add(place)
            continue
        kept[place] = sketch
        index.insert(place, sketch)
    return found


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=4000, help="before copies are planted")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    originals, kind = passages(args.documents, rng)
    documents = plant(originals, rng)
    n, copies = len(originals), len(documents) - len(originals)
    sets = [shingles(text) for text in documents]

    def exact(one: int, other: int) -> float:
        return len(sets[one] & sets[other]) / len(sets[one] | sets[other])

    near = {n + i for i in range(copies) if exact(n + i, i) >= THRESHOLD}
    sides: dict[str, Search] = {"ours": ours, "ours_unverified": ours_unverified}
    missing = []
    for name, search in (("datasketch", with_datasketch), ("rensa", with_rensa)):
        if importlib.util.find_spec(name) is None:
            missing.append(f"{name}: pip install --target .deps {name}, PYTHONPATH=.deps")
        else:
            sides[name] = search
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, set[int]] = {}
    for _ in range(args.repeats):
        for name, search in sides.items():
            started = time.perf_counter()
            found[name] = search(documents)
            seconds[name].append(time.perf_counter() - started)
    table = {}
    for name in sides:
        planted = {place for place in found[name] if place >= n}
        median = statistics.median(seconds[name])
        table[name] = {
            "documents_per_s": round(len(documents) / median),
            "spread_s": [round(min(seconds[name]), 3), round(max(seconds[name]), 3)],
            "recall": round(len(near & planted) / len(near), 4),
            "false_finds": len(planted - near),
            "found_among_originals": len(found[name]) - len(planted),
        }
    write_result(
        "near_duplicates",
        {
            "documents": len(documents),
            "characters": sum(map(len, documents)),
            "text": kind,
            "seed": args.seed,
            "repeats": args.repeats,
            "threshold": THRESHOLD,
            "shingle_words": WORDS,
            "copies": copies,
            "copies_at_threshold": len(near),
            "bands_and_rows": choose_bands(THRESHOLD),
            "sides": table,
            "versions": {m: importlib.metadata.version(m) for m in ("datasketch", "rensa") if m in sides},
            "not_run": missing,
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "load_average": round(os.getloadavg()[0], 1),
        },
    )


if __name__ == "__main__":
    main()
