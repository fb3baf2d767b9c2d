"""BPE training beside Hugging Face's tokenizers, rustbpe and the naive trainer: seconds, memory, same merges.

Corpora: the first 20 and 100 MB of the registry's novels and books_a, in documents of 20,000 characters.
Trainers take turns, each run in its own process (bpe_trainers.py); medians. The naive trainer is measured on
a slice and extrapolated. The peers live in an interpreter of their own:

    python -m venv ../peers && ../peers/bin/pip install tokenizers rustbpe
    RAWGPT_DATA_MIRROR=... python -m benchmarks.bpe_training --peers-python ../peers/bin/python

About 3 minutes on two quiet cores; `--sizes 20 --repeats 1` takes half a minute. `--table` alone prints the
tables of docs/chapters/tokenizer.md out of the last result.
"""

import argparse
import base64
import bz2
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import tiktoken

from benchmarks.bpe_trainers import PATTERN, texts
from benchmarks.result_file import RESULTS, write_result
from gpt.corpus.registry import fetch
from gpt.tokenizer.byte_level import byte_symbols
from gpt.tokenizer.count_words import count_words
from gpt.tokenizer.naive_bpe import train_naive
from gpt.tokenizer.train_bpe import train_bpe

ROOT = Path(__file__).parents[1]
SETS = ("novels", "books_a")
DOCUMENT_CHARS = 20_000
NAIVE_CHARS, NAIVE_MERGES = 400_000, 20
POLL_S = 0.05


def book_texts() -> Iterator[str]:
    """Yield pieces of the registry's books, in their order."""
    for name in SETS:
        with bz2.open(fetch(name), "rt", encoding="utf-8") as lines:
            for line in lines:
                text = json.loads(line)["text"]
                yield from (text[i : i + DOCUMENT_CHARS] for i in range(0, len(text), DOCUMENT_CHARS))


def write_corpus(folder: Path, n_bytes: int) -> int:
    """Write documents.jsonl with at least `n_bytes` of text; return how many bytes it holds."""
    folder.mkdir()
    written = 0
    with (folder / "documents.jsonl").open("w", encoding="utf-8") as file:
        for i, text in enumerate(book_texts()):
            document = {"id": str(i), "text": text, "split": "train"}
            file.write(json.dumps(document, ensure_ascii=False) + "\n")
            written += len(text.encode())
            if written >= n_bytes:
                return written
    raise ValueError(f"--sizes: {' and '.join(SETS)} hold {written} bytes, {n_bytes} are asked for")


def run(trainer: str, python: str, corpus: Path, vocab_size: int) -> dict[str, Any]:
    """Train once in a process; return its seconds, its tokens and the most memory that its tree held."""
    out = corpus / "result.json"
    command = [python, str(ROOT / "benchmarks/bpe_trainers.py"), trainer, "--corpus", str(corpus)]
    command += ["--vocab-size", str(vocab_size), "--out", str(out)]
    child = psutil.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    peak = 0
    while child.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):  # one may end between listing and looking
            peak = max(peak, sum(p.memory_info().rss for p in (child, *child.children(recursive=True))))
        time.sleep(POLL_S)
    if child.returncode:
        raise ValueError(f"{trainer}: ended with {child.returncode}; see above")
    return json.loads(out.read_text(encoding="utf-8")) | {"peak_mb": round(peak / 1e6)}


def hugging_face_order(corpus: Path, vocab_size: int) -> list[bytes]:
    """Train ours with bytes numbered as Hugging Face numbers them: by the code point of their symbol.

    Ties go to the smaller pair of ids, so that the numbering of the bytes decides them. Other bytes are put
    in the words' place before training and taken back after it.
    """
    by_symbol = bytes(byte for _, byte in sorted(byte_symbols().items()))
    ids = bytes(by_symbol.index(byte) for byte in range(256))
    words = count_words(texts(corpus), PATTERN)
    renumbered = Counter({word.translate(ids): count for word, count in words.items()})
    return [token.translate(by_symbol) for token in train_bpe(renumbered, vocab_size - 256)]


def tokens_of(result: dict[str, Any], *, symbols: bool) -> list[bytes]:
    """Return a run's tokens as bytes; `symbols`: they are written in GPT-2's byte symbols."""
    tokens = [base64.b64decode(token) for token in result["tokens"]]
    table = byte_symbols()
    return [bytes(table[char] for char in token.decode()) for token in tokens] if symbols else tokens


def naive_at_least_s(corpus: Path, tokens: list[bytes]) -> dict[str, float]:
    """Extrapolate train_naive from a slice: seconds for one symbol and merge, times the fewest symbols.

    The symbols of the distinct words only fall, so that those left at the end make a lower bound.
    """
    slice_of = next(texts(corpus))
    for text in texts(corpus):
        if len(slice_of) >= NAIVE_CHARS:
            break
        slice_of += text
    words = count_words([slice_of], PATTERN)
    symbols = sum(map(len, words))
    began = time.process_time()
    train_naive(words, NAIVE_MERGES)
    per_symbol = (time.process_time() - began) / NAIVE_MERGES / symbols
    left = symbols_left(count_words(texts(corpus), PATTERN), tokens)
    return {
        "slice_symbols": symbols,
        "slice_merges": NAIVE_MERGES,
        "s_per_symbol_and_merge": per_symbol,
        "symbols_left": left,
        "at_least_s": per_symbol * left * (len(tokens) - 256),
    }


def symbols_left(words: Counter[bytes], tokens: list[bytes]) -> int:
    """Count the tokens of the distinct words once every merge is made: encoding makes the same merges."""
    ranks = {token: i for i, token in enumerate(tokens)}
    engine = tiktoken.Encoding(name="all", pat_str=r"(?s).+", mergeable_ranks=ranks, special_tokens={})
    return sum(len(engine.encode_ordinary(word.decode())) for word in words)


def measure(folder: Path, size_mb: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train with every trainer in turns on one corpus."""
    corpus = folder / f"books_{size_mb}mb"
    n_bytes = write_corpus(corpus, size_mb * 10**6)
    pythons = {"ours": sys.executable, "tokenizers": args.peers_python, "rustbpe": args.peers_python}
    runs: dict[str, list[dict[str, Any]]] = {trainer: [] for trainer in pythons}
    for _ in range(args.repeats):
        for trainer, python in pythons.items():
            runs[trainer].append(run(trainer, python, corpus, args.vocab_size))
    tokens = {t: tokens_of(runs[t][0], symbols=t == "tokenizers") for t in pythons}
    median = {
        trainer: {key: round(statistics.median(r[key] for r in results), 3) for key in ("wall_s", "cpu_s")}
        | {"peak_mb": max(r["peak_mb"] for r in results)}
        for trainer, results in runs.items()
    }
    words = count_words(texts(corpus), PATTERN)
    naive = naive_at_least_s(corpus, tokens["ours"])
    return {
        "bytes": n_bytes,
        "words": words.total(),
        "distinct_words": len(words),
        "trainers": median,
        "same_tokens_as_rustbpe": tokens["ours"] == tokens["rustbpe"],
        "same_tokens_as_tokenizers": hugging_face_order(corpus, args.vocab_size) == tokens["tokenizers"],
        "tokens_that_ties_alone_change": len(set(tokens["ours"]) - set(tokens["tokenizers"])),
        "naive": naive,
        "naive_over_ours_cpu_at_least": round(naive["at_least_s"] / median["ours"]["cpu_s"]),
    }


def render(result: dict[str, Any]) -> str:
    """Return the chapter's two tables: what is counted, and what training takes."""
    words = ["| corpus | words | distinct words | symbols left after all merges |", "|---|---|---|---|"]
    times = ["| corpus | trainer | wall s | CPU s | peak MB |", "|---|---|---|---|---|"]
    for size, row in result["sizes_mb"].items():
        left = row["naive"]["symbols_left"]
        words.append(f"| {size} MB | {row['words']:,} | {row['distinct_words']:,} | {left:,} |")
        for trainer, median in row["trainers"].items():
            name = "Hugging Face tokenizers" if trainer == "tokenizers" else trainer
            seconds = f"{median['wall_s']:.1f} | {median['cpu_s']:.1f}"
            times.append(f"| {size} MB | {name} | {seconds} | {median['peak_mb']} |")
        at_least = row["naive"]["at_least_s"]
        times.append(f"| {size} MB | naive, extrapolated | | at least {at_least:,.0f} | |")
    return "\n".join(words) + "\n\n" + "\n".join(times)


def main() -> None:
    """Measure every size and write the result; or print the chapter's table."""
    if sys.argv[1:] == ["--table"]:
        print(render(json.loads((RESULTS / "bpe_training.json").read_text(encoding="utf-8"))))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="alone: print the last result for the chapter")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 100], help="MB of books")
    parser.add_argument("--vocab-size", type=int, default=16384, help="256 bytes and merges")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--peers-python", required=True, help="an interpreter with tokenizers and rustbpe")
    args = parser.parse_args()
    args.peers_python = str(Path(args.peers_python).absolute())  # not resolved: it may be a venv's link
    asked = "import importlib.metadata as m; print(*map(m.version, ('tokenizers', 'rustbpe')))"
    found = subprocess.run([args.peers_python, "-c", asked], capture_output=True, text=True)
    if found.returncode:
        parser.error("--peers-python: no tokenizers or rustbpe there; pip install tokenizers rustbpe")
    with tempfile.TemporaryDirectory(prefix="bpe-training-") as folder:
        sizes = {str(size): measure(Path(folder), size, args) for size in args.sizes}
    versions = dict(zip(("tokenizers", "rustbpe"), found.stdout.split(), strict=True))
    setting = {"pattern": "gpt2", "vocab_size": args.vocab_size, "repeats": args.repeats, "peers": versions}
    write_result("bpe_training", setting | {"sizes_mb": sizes})


if __name__ == "__main__":
    main()
