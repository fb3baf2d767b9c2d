"""How often is the language tag right, on texts that chose no word and no dial of it?

    RAWGPT_DATA_MIRROR=<folder> python -m benchmarks.language_tags

Held-out sets with a known language: the whole dialogs and the single turns of Code-Mixed-Dialog's
development part (a turn such as "french" is the same word in both languages and counts as an error), the
Hinglish and English sides of Hinglish-TOP's validation part, and English banking queries and textbook
paragraphs. No set of running Devanagari is in the mirror: `hi` is tested by hand only. Half a minute.
"""

import argparse
import os
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.result_file import write_result
from gpt.corpus.language import tag
from gpt.corpus.text_files import read_records

SKIPPED = ("<SILENCE>", "api_call")


def held_out(root: Path) -> list[tuple[str, str, list[str]]]:
    """Return (set, language, texts)."""
    sets: list[tuple[str, str, list[str]]] = []
    for code, language in (("hi", "hinglish"), ("en", "en")):
        dialogs = [
            [t[k] for t in r["turns"] for k in ("user", "assistant") if not t[k].startswith(SKIPPED)]
            for r in read_records(root / f"hinglish/codemixed_dstc2_{code}_dev.jsonl.bz2")
        ]
        sets.append((f"codemixed_dstc2_{code}_dev dialogs", language, [" ".join(d) for d in dialogs]))
        turns = sorted({turn for dialog in dialogs for turn in dialog})
        sets.append((f"codemixed_dstc2_{code}_dev turns, each once", language, turns))
    top = list(read_records(root / "hinglish/hinglish_top_human_validation.jsonl.bz2"))
    sets.append(("hinglish_top_validation cs_query", "hinglish", [r["cs_query"] for r in top]))
    sets.append(("hinglish_top_validation en_query", "en", [r["en_query"] for r in top]))
    for name in ("clinc150_banking_cards", "nlupp_banking"):
        texts = [r["text"] for r in read_records(root / f"fintech/{name}.jsonl.bz2")]
        sets.append((name, "en", texts))
    books = islice(read_records(root / "english/openstax.jsonl.bz2"), 300)
    paragraphs = [p for r in books for p in r["text"].split("\n\n") if len(p) > 80]
    return [*sets, ("openstax paragraphs", "en", paragraphs)]


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.parse_args()
    mirror = os.environ.get("RAWGPT_DATA_MIRROR", "")
    if not Path(mirror, "hinglish").is_dir():
        raise SystemExit("language_tags: set RAWGPT_DATA_MIRROR to a folder that holds the data mirror")
    table: dict[str, Any] = {}
    for name, language, texts in held_out(Path(mirror)):
        started = time.perf_counter()
        tags = Counter(tag(text) for text in texts)
        seconds = time.perf_counter() - started
        accuracy = tags[language] / len(texts)
        table[name] = {
            "language": language,
            "n": len(texts),
            "accuracy": round(accuracy, 4),
            "standard_error": round((accuracy * (1 - accuracy) / len(texts)) ** 0.5, 4),
            "tags": dict(sorted(tags.items())),
            "megabytes_per_s": round(sum(map(len, texts)) / 1e6 / seconds, 2),
        }
    write_result("language_tags", {"sets": table, "load_average": round(os.getloadavg()[0], 1)})


if __name__ == "__main__":
    main()
