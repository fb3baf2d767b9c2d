"""One BPE training in its own process, for bpe_training.py: ours, tokenizers (Hugging Face) or rustbpe.

    python benchmarks/bpe_trainers.py rustbpe --corpus FOLDER --vocab-size 16384 --out result.json

Timed: from documents.jsonl to tokens, reading included; not the start of Python, nor importing. Runs under
the peers' Python, which has nothing of this project: only `ours` imports it.
"""

import argparse
import base64
import importlib
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path

PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def texts(corpus: Path) -> Iterator[str]:
    """Yield the documents' texts."""
    with (corpus / "documents.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def tokenizers(corpus: Path, vocab_size: int) -> list[bytes]:
    """Train Hugging Face's BpeTrainer; the tokens in their UTF-8, written in GPT-2's byte symbols."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts(corpus), trainer)
    vocabulary = tokenizer.get_vocab()
    return [token.encode() for token in sorted(vocabulary, key=vocabulary.__getitem__)]


def rustbpe(corpus: Path, vocab_size: int) -> list[bytes]:
    """Train rustbpe."""
    from rustbpe import Tokenizer

    tokenizer = Tokenizer()
    tokenizer.train_from_iterator(texts(corpus), vocab_size, pattern=PATTERN)
    return [bytes(token) for token, _ in sorted(tokenizer.get_mergeable_ranks(), key=lambda entry: entry[1])]


def ours(corpus: Path, vocab_size: int) -> list[bytes]:
    """Train as the stage tokenize does, on all cores."""
    from gpt.corpus.documents import cut_parts
    from gpt.tokenizer.count_parts import count_parts
    from gpt.tokenizer.train_bpe import train_bpe
    from gpt.workers.config import WorkersConfig
    from stages.tokenize import PART_BYTES, train_texts

    parts = cut_parts(corpus, PART_BYTES)
    words = count_parts(parts, train_texts, PATTERN, WorkersConfig(processes=0))
    return train_bpe(words, vocab_size - 256)


def cpu_s() -> float:
    """Return the CPU seconds of this process, its threads and the processes that it has ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main() -> None:
    """Train once; write seconds and tokens."""
    trainers = {train.__name__: train for train in (ours, tokenizers, rustbpe)}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trainer", choices=trainers)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--vocab-size", type=int, required=True, help="256 bytes and merges")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    for module in {"ours": ("stages.tokenize", "regex")}.get(args.trainer, (args.trainer,)):
        importlib.import_module(module)
    wall, cpu = time.perf_counter(), cpu_s()
    tokens = trainers[args.trainer](args.corpus, args.vocab_size)
    seconds = {"wall_s": time.perf_counter() - wall, "cpu_s": cpu_s() - cpu}
    args.out.write_text(json.dumps(seconds | {"tokens": [base64.b64encode(t).decode() for t in tokens]}))


if __name__ == "__main__":
    main()
