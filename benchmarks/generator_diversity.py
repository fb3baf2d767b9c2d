"""Is the generator a template parrot? The one before, the one now, and real sets, by the same measures.

    python -m benchmarks.generator_diversity

For every set, cut to the same number of words: distinct-1/2/3 (different n-grams of words among all, Li et
al. 2016), the share of the validation side's word 5-grams that stand in the training side, and the
perplexity of a byte n-gram (interpolated Witten-Bell, order --order, trained on the training side alone) on
two other sides: new text of the same templates ("seen"), and text of held-out templates ("unseen"). The
ratio of the two is the parrot's mark: templates learned by heart cost nothing, new ones are foreign.
Perplexity is a word's for chats (2 to the bits of a text over its words) and a character's for all; a log
line's words are no words.

Held-out templates are a fifth of the frames of every list of a grammar, chosen by hash
(gpt/corpus/grammar.py); the generator before, read out of git at --before, is cut the same way. Real sets
have no templates: their own development part, or a hash of the dialog, is the validation side. Standard
errors are over --runs seeds; a real set has one text and none. The figures do not hang on the machine's
speed. Two minutes; one thread.
"""

import argparse
import importlib.util
import math
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.result_file import write_result
from gpt.corpus.hinglish import generate_chats
from gpt.corpus.instructions import OWN_SIDES, READERS
from gpt.corpus.log_counts import distinct_n
from gpt.corpus.log_record import record_texts
from gpt.corpus.payment_lines import generate_payment_logs
from gpt.corpus.split import unit_hash

Sides = dict[str, list[str]]
"""train; seen: other text like it; unseen: of held-out templates (of a real set: its validation side)."""
REAL = {
    "codemixed_dstc2 (people)": ("codemixed_dstc2_hi_trn", "codemixed_dstc2_hi_dev"),
    "cucom_banking (machine-written)": ("cucom_banking",),
    "cucom_ecommerce (machine-written)": ("cucom_ecommerce",),
}
MIRROR = {
    "codemixed_dstc2_hi_trn": "hinglish/codemixed_dstc2_hi_trn.jsonl.bz2",
    "codemixed_dstc2_hi_dev": "hinglish/codemixed_dstc2_hi_dev.jsonl.bz2",
    "cucom_banking": "fintech/cucom_banking_sample.jsonl.bz2",
    "cucom_ecommerce": "fintech/cucom_ecommerce_v_0_1.jsonl.zip",
}


class ByteModel:
    """An interpolated Witten-Bell n-gram over bytes: no unknown words, so all sets are on one scale."""

    def __init__(self, texts: list[str], order: int) -> None:
        self.order = order
        self.counts: list[dict[bytes, Counter[int]]] = [defaultdict(Counter) for _ in range(order)]
        for text in texts:
            data = b"\0" * (order - 1) + text.encode() + b"\n"
            for at in range(order - 1, len(data)):
                for n in range(order):
                    self.counts[n][data[at - n : at]][data[at]] += 1

    def bits(self, text: str) -> float:
        """Return the bits of a text and its end."""
        data = b"\0" * (self.order - 1) + text.encode() + b"\n"
        total = 0.0
        for at in range(self.order - 1, len(data)):
            chance = 1 / 256
            for n in range(self.order):
                seen = self.counts[n].get(data[at - n : at])
                if seen is None:
                    break
                size = seen.total()
                chance = (seen[data[at]] + len(seen) * chance) / (size + len(seen))
            total -= math.log2(chance)
        return total


def measure(sides: Sides, order: int, words: int, *, has_words: bool = True) -> dict[str, float]:
    """Return every figure of one set; sides are cut to `words` (the validation sides to a quarter)."""
    train = cut(sides["train"], words)
    held = {name: cut(sides[name], words // 4) for name in ("seen", "unseen") if sides[name]}
    model = ByteModel(train, order)
    result = {f"distinct_{n}": distinct_n(train, n) for n in (1, 2, 3)}
    result["train_words"] = sum(len(text.split()) for text in train)
    known = five_grams(train)
    for name, texts in held.items():
        bits, n_words = sum(map(model.bits, texts)), sum(len(text.split()) for text in texts)
        n_characters = sum(len(text) + 1 for text in texts)
        result[f"{name}_bits_per_character"] = bits / n_characters
        result[f"{name}_perplexity_per_character"] = 2 ** (bits / n_characters)
        if has_words:
            result[f"{name}_perplexity_per_word"] = 2 ** (bits / n_words)
        grams = [gram for text in texts for gram in grams_of(text)]
        result[f"{name}_5grams_in_train"] = sum(gram in known for gram in grams) / max(len(grams), 1)
        result[f"{name}_words"] = n_words
    if len(held) == 2:
        for unit in ("word", "character") if has_words else ("character",):
            seen, unseen = (result[f"{side}_perplexity_per_{unit}"] for side in ("seen", "unseen"))
            result[f"unseen_over_seen_per_{unit}"] = unseen / seen
    return result


def cut(texts: list[str], words: int) -> list[str]:
    """Return the first texts that together have `words` words."""
    kept, have = [], 0
    for text in texts:
        if have >= words:
            break
        kept.append(text)
        have += len(text.split())
    return kept


def grams_of(text: str) -> list[tuple[str, ...]]:
    """Return the word 5-grams of a text, small letters."""
    tokens = text.lower().split()
    return list(zip(*(tokens[i:] for i in range(5)), strict=False))


def five_grams(texts: list[str]) -> set[tuple[str, ...]]:
    """Return the different 5-grams of texts."""
    return {gram for text in texts for gram in grams_of(text)}


def now(make: Callable[..., Any], n: int, seed: int) -> Sides:
    """Return the sides of the generator of today."""
    sides: Sides = {}
    for name, fraction, shift in (("train", 0.0, 0), ("seen", 0.0, 500), ("unseen", 1.0, 900)):
        drafts = make(n, seed=seed + shift, planted_fraction=0.4, val_fraction=fraction)
        sides[name] = [" ".join(record_texts(draft.record)) for draft in drafts]
    return sides


def load_before(commit: str, folder: Path) -> Any:
    """Import the generator as it was at a commit; raises ValueError where git does not hold it."""
    for name in ("hinglish.py", "hinglish.yaml"):
        command = ["git", "show", f"{commit}:gpt/corpus/{name}"]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            raise ValueError(f"--before {commit}: git has no such commit here; fetch it, or give another")
        (folder / name).write_bytes(done.stdout)
    spec = importlib.util.spec_from_file_location("hinglish_before", folder / "hinglish.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hinglish_before"] = module
    spec.loader.exec_module(module)
    return module


def before(module: Any, maker: str, n: int, seed: int) -> Sides:
    """Return the sides of the generator before: its lists of sentences cut as today's are."""
    whole = module.grammar()
    sides: Sides = {}
    for name, side, shift in (("train", "train", 0), ("seen", "train", 500), ("unseen", "val", 900)):
        part = {
            **whole,
            "pieces": {k: _side(v, k, side) for k, v in whole["pieces"].items()},
            "scenarios": {
                intent: {k: _side(v, f"{intent}.{k}", side) for k, v in parts.items()}
                for intent, parts in whole["scenarios"].items()
            },
            "payment_logs": _side(whole["payment_logs"], "payment_logs", side),
            "log_notes": _side(whole["log_notes"], "log_notes", side),
        }
        module.grammar = lambda part=part: part
        made = getattr(module, maker)(n, seed=seed + shift, planted_fraction=0.4)
        sides[name] = [" ".join(module.record_texts(generated.record)) for generated in made]
    module.grammar = lambda: whole
    return sides


def _side(lines: list[str], name: str, side: str) -> list[str]:
    """Cut a list of sentences; one of words and clauses (as today's `words`) is shared."""
    full = [line for line in lines if line]
    if name in ("greet", "fail", "cut", "wait", "reason", "bot_name") or len(full) < 2:
        return lines
    ordered = sorted(full, key=lambda line: unit_hash(f"{name} {line}", 0))
    val = set(ordered[: max(1, round(0.2 * len(full)))])
    empty = [line for line in lines if not line]
    return [line for line in full if (line in val) == (side == "val")] + empty


def real_sets() -> dict[str, Sides]:
    """Return the real sets of the mirror, or none of them."""
    root = Path(os.environ.get("RAWGPT_DATA_MIRROR", "/nonexistent"))
    found: dict[str, Sides] = {}
    for label, names in REAL.items():
        if not all((root / MIRROR[name]).is_file() for name in names):
            continue
        sides: Sides = {"train": [], "seen": [], "unseen": []}
        for name in names:
            for i, messages in enumerate(READERS[name](root / MIRROR[name])):
                side = OWN_SIDES.get(name) or ("val" if unit_hash(f"{name}-{i:06d}", 0) < 0.2 else "train")
                text = " ".join(message["content"] for message in messages)
                if text:
                    sides["unseen" if side == "val" else "train"].append(text)
        random.Random(0).shuffle(sides["train"])
        found[label] = sides
    return found


def with_errors(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Return the mean and the standard error of every figure over the runs."""
    return {
        key: {
            "mean": round(mean(run[key] for run in runs), 4),
            "standard_error": round(stdev(run[key] for run in runs) / math.sqrt(len(runs)), 4),
        }
        for key in runs[0]
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--before", default="21e315e", help="commit of the generator before")
    parser.add_argument("--runs", type=int, default=4, help="seeds of each generator")
    parser.add_argument("--words", type=int, default=20_000, help="words of the training side")
    parser.add_argument("--order", type=int, default=7, help="bytes of an n-gram")
    args = parser.parse_args()
    if args.runs < 2:
        parser.error(f"--runs: at least 2 are needed for a standard error, got {args.runs}")
    n = args.words // 8
    table: dict[str, list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        old = load_before(args.before, Path(folder))
        for run in range(args.runs):  # one of each in turn
            seed = 10_000 * (run + 1)
            for label, sides in (
                ("chats now", now(generate_chats, n, seed)),
                ("chats before", before(old, "generate_chats", n, seed)),
                ("payment logs now", now(generate_payment_logs, n, seed)),
                ("payment logs before", before(old, "generate_payment_logs", n, seed)),
            ):
                has_words = label.startswith("chats")
                table[label].append(measure(sides, args.order, args.words, has_words=has_words))
    real = real_sets()
    result = {
        "words": args.words,
        "order": args.order,
        "runs": args.runs,
        "before": args.before,
        "generated": {label: with_errors(runs) for label, runs in table.items()},
        "real": {
            label: {k: round(v, 4) for k, v in measure(sides, args.order, args.words).items()}
            for label, sides in real.items()
        },
        "real_sets": "found" if real else "not run: set RAWGPT_DATA_MIRROR to the data mirror",
    }
    write_result("generator_diversity", result)


if __name__ == "__main__":
    main()
