"""How much personal data does the scrubber find, how much else does it take, and how fast is it?

    python -m benchmarks.scrubber --records 4000

Recall by kind on canaries of our own generator, with seeds that no test and no rule was made with: it is
a number about those canaries, not about people. False positives: generated records without canaries, and
real texts (RAWGPT_DATA_MIRROR) in which nobody wrote personal data on purpose; there every placeholder
counts, also the right ones (a customer's name in a dialog, "Mr. Havisham" in a novel), so the rate is an
upper bound, and the samples (--show) are there to be read. About one minute; one thread.
"""

import argparse
import csv
import io
import os
import random
import time
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.result_file import write_result
from gpt.corpus.hinglish import generate_chats, generate_payment_logs
from gpt.corpus.log_record import record_texts
from gpt.corpus.planted import count_leaks
from gpt.corpus.redact import redact_all
from gpt.corpus.text_files import read_records, read_text


def recall(n: int, seed: int) -> dict[str, Any]:
    """Scrub n chats and n payment logs with canaries; count what is left by kind."""
    planted: Counter[str] = Counter()
    leaked: Counter[str] = Counter()
    for make in (generate_chats, generate_payment_logs):
        for generated in make(n, seed=seed, planted_fraction=1.0):
            text = " ".join(redact_all(record_texts(generated.record))[0])
            for value, kind in zip(generated.planted, generated.kinds, strict=True):
                planted[kind] += 1
                leaked[kind] += count_leaks([value], text)
    table = {k: {"planted": m, "recall": round(1 - leaked[k] / m, 5)} for k, m in sorted(planted.items())}
    return {"all": round(1 - leaked.total() / planted.total(), 5), "planted": planted.total(), "kinds": table}


def false_positives(texts: Iterable[list[str]], show: int, name: str) -> dict[str, Any]:
    """Scrub records; count placeholders by kind and for every thousand records."""
    counts: Counter[str] = Counter()
    n = touched = characters = 0
    samples: list[str] = []
    started = time.perf_counter()
    for record in texts:
        scrubbed, found = redact_all(record)
        n += 1
        touched += bool(found)
        counts += found
        characters += sum(map(len, record))
        if found:
            samples += [f"{name} | {text[:160]!r}" for text in scrubbed if "[" in text]
    seconds = time.perf_counter() - started
    print("\n".join(random.Random(0).sample(samples, min(show, len(samples)))))
    return {
        "records": n,
        "touched_per_1000": round(1000 * touched / max(n, 1), 2),
        "by_kind": dict(sorted(counts.items())),
        "megabytes_per_s": round(characters / 1e6 / seconds, 2),
    }


def real_texts() -> dict[str, Iterable[list[str]]]:
    """Return the real texts of the mirror, or none of them."""
    root = Path(os.environ.get("RAWGPT_DATA_MIRROR", "/nonexistent"))
    if not root.is_dir():
        return {}
    top = list(read_records(root / "hinglish/hinglish_top_human_validation.jsonl.bz2"))
    dialogs = read_records(root / "hinglish/codemixed_dstc2_hi_dev.jsonl.bz2")
    bank = csv.DictReader(io.StringIO(read_text(root / "fintech/banking77_train.csv.bz2")))
    novels = islice(
        read_records(root / "english/novels.jsonl.bz2"), 30, 50
    )  # the first were read for mistakes
    books = islice(read_records(root / "english/openstax.jsonl.bz2"), 1000, 1300)
    clinc = read_records(root / "fintech/clinc150_banking_cards.jsonl.bz2")
    nlupp = read_records(root / "fintech/nlupp_banking.jsonl.bz2")
    return {
        "hinglish_top_validation": [[r["cs_query"]] for r in top],
        "codemixed_dstc2_hi_dev": [[t[k] for t in r["turns"] for k in t] for r in dialogs],
        "banking77_train": [[row["text"]] for row in bank],
        "clinc150_banking": [[r["text"]] for r in clinc],
        "nlupp_banking": [[r["text"]] for r in nlupp],
        "openstax_paragraphs": [[p] for r in books for p in r["text"].split("\n\n") if p.strip()],
        "novels_paragraphs": [[p] for r in novels for p in r["text"][:150_000].split("\n") if p.strip()],
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=4000, help="generated records of each sort")
    parser.add_argument("--seed", type=int, default=424_242)
    parser.add_argument("--show", type=int, default=0, help="print so many scrubbed samples of each set")
    args = parser.parse_args()
    dials: dict[str, Any] = {"seed": args.seed, "planted_fraction": 0.0}
    clean = {
        "generated_chats": (record_texts(g.record) for g in generate_chats(args.records, **dials)),
        "generated_payment_logs": (
            record_texts(g.record) for g in generate_payment_logs(args.records, **dials)
        ),
    }
    sets = {**clean, **real_texts()}
    write_result(
        "scrubber",
        {
            "seed": args.seed,
            "recall_on_canaries": recall(args.records, args.seed),
            "without_canaries": {
                name: false_positives(texts, args.show, name) for name, texts in sets.items()
            },
            "real_sets": "found" if len(sets) > 2 else "not run: set RAWGPT_DATA_MIRROR to the data mirror",
            "load_average": round(os.getloadavg()[0], 1),
        },
    )


if __name__ == "__main__":
    main()
