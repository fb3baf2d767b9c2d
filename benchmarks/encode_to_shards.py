"""Does the whole encoding keep up with tiktoken's own batch? Books at GPT-2's vocabulary, the same cores.

Ours reads documents.jsonl, encodes in processes, hashes, writes, fsyncs and lists the shards; the peer is
tiktoken's `encode_ordinary_batch` with as many threads over the same texts, which are in memory already and
whose ids are dropped. Interleaved, medians. Beside them one core each: ours in this process against
`encode_ordinary` in a loop. Needs the registry's books and GPT-2's vocabulary (a network or
RAWGPT_DATA_MIRROR). Two minutes at 64 MB on 2 cores.
"""

import argparse
import functools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import tiktoken

from gpt.corpus import registry
from gpt.corpus.jsonl import write_jsonl
from gpt.corpus.text_files import read_records
from gpt.dataset.encode_corpus import assemble, encode_parts
from gpt.dataset.shard_set import open_shards
from gpt.tokenizer.gpt2_files import gpt2_tokenizer
from gpt.tokenizer.vocab_file import save_tokenizer
from gpt.workers.config import WorkersConfig

BOOKS = ("books_a", "novels", "openstax")
VAL_EVERY = 50


def read_books(n_bytes: int) -> list[str]:
    """Return the first books, at least `n_bytes` of UTF-8 together, or all there are."""
    texts, size = [], 0
    for record in chain.from_iterable(read_records(registry.fetch(name)) for name in BOOKS):
        texts.append(str(record["text"]))
        size += len(texts[-1].encode())
        if size >= n_bytes:
            break
    return texts


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ours(folder: Path, part_mb: float, processes: int) -> None:
    """Encode the corpus in `folder` to shards, from nothing."""
    for name in ("parts", "shards"):
        shutil.rmtree(folder / name, ignore_errors=True)
    workers = WorkersConfig(processes=processes)
    inputs = (folder, folder / "tokenizer", folder / "parts")
    parts = list(encode_parts(*inputs, part_bytes=round(part_mb * 2**20), workers=workers))
    assemble(parts, folder / "parts", folder / "shards")


def one_core(engine: tiktoken.Encoding, texts: Sequence[str]) -> None:
    """Encode one text after the other."""
    for text in texts:
        engine.encode_ordinary(text)


def main() -> None:
    """Measure both, interleaved; check that the ids are the same; write the result."""
    from benchmarks.result_file import write_result  # imports torch, which each of our processes would too

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=64.0, help="UTF-8 bytes of text / 10^6")
    parser.add_argument("--part-mb", type=float, default=4.0, help="shard.part_mb")
    parser.add_argument("--processes", type=int, default=2, help="ours; and the peer's threads")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    texts = read_books(round(args.megabytes * 1e6))
    n_bytes = sum(len(text.encode()) for text in texts)
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".encode-") as name:
        folder = Path(name)
        tokenizer = gpt2_tokenizer(registry.fetch("gpt2_bpe_encoder"), registry.fetch("gpt2_bpe_vocab"))
        save_tokenizer(folder / "tokenizer", tokenizer)
        splits = ["val" if i % VAL_EVERY == 0 else "train" for i in range(len(texts))]
        records = ({"id": str(i), "text": t, "split": splits[i]} for i, t in enumerate(texts))
        write_jsonl(folder / "documents.jsonl", records)
        engine = tokenizer._engine  # the engine that our workers run, called as its makers do
        arms: dict[str, Callable[[], object]] = {
            "ours": functools.partial(ours, folder, args.part_mb, args.processes),
            "tiktoken_batch": functools.partial(
                engine.encode_ordinary_batch, texts, num_threads=args.processes
            ),
            "ours_one_core": functools.partial(ours, folder, args.part_mb, 1),
            "tiktoken_one_core": functools.partial(one_core, engine, texts),
        }
        times: dict[str, list[float]] = {arm: [] for arm in arms}
        for _ in range(args.repeats):
            for arm, work in arms.items():
                times[arm].append(seconds(work))
        ours(folder, args.part_mb, args.processes)
        for split in ("train", "val"):
            expected = [engine.encode_ordinary(t) for t, s in zip(texts, splits, strict=True) if s == split]
            plain = [i for ids in expected for i in (*ids, tokenizer.end_of_text)]
            assert open_shards(folder / "shards", split, None)[:].tolist() == plain, "other ids than tiktoken"
    rates = {arm: n_bytes / 1e6 / statistics.median(values) for arm, values in times.items()}
    write_result(
        "encode_to_shards",
        {
            "tiktoken": version("tiktoken"),
            "vocabulary": "gpt2",
            "texts": len(texts),
            "text_bytes": n_bytes,
            "part_mb": args.part_mb,
            "processes": args.processes,
            "seconds": {arm: [round(value, 3) for value in values] for arm, values in times.items()},
            "mb_per_s": {arm: round(rate, 2) for arm, rate in rates.items()},
            "ratio": round(rates["ours"] / rates["tiktoken_batch"], 3),
            "ratio_one_core": round(rates["ours_one_core"] / rates["tiktoken_one_core"], 3),
            "same_ids": True,
        },
    )


if __name__ == "__main__":
    main()
