"""The log set: generated and real records, scrubbed, each once, split; and the scrubber's score."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from gpt.corpus.config import LogsConfig
from gpt.corpus.contamination import index_items
from gpt.corpus.evaluation_sets import evaluation_items
from gpt.corpus.hinglish import (
    Generated,
    canonical,
    distinct_n,
    generate_chats,
    generate_payment_logs,
    record_texts,
    with_texts,
)
from gpt.corpus.instructions import real_chats
from gpt.corpus.language import code_mixing_index, tag
from gpt.corpus.planted import count_leaks
from gpt.corpus.redact import redact_all
from gpt.corpus.split import split_ids


@dataclass(kw_only=True, slots=True)
class LogSet:
    """Scrubbed records by split, and the counts that were made on the way."""

    train: list[dict[str, Any]] = field(default_factory=list)
    val: list[dict[str, Any]] = field(default_factory=list)
    redacted: Counter[str] = field(default_factory=Counter)
    """Placeholders put, by kind."""
    n_planted: int = 0
    n_leaked: int = 0
    """Planted values of which something is left after scrubbing."""
    n_clean: int = 0
    """Generated records without planted data."""
    n_clean_touched: int = 0
    """Of those, the ones in which the scrubber replaced something."""
    n_repeated: int = 0
    """Records left out because an earlier one has the same scrubbed text."""
    planted_by_kind: Counter[str] = field(default_factory=Counter)
    leaked_by_kind: Counter[str] = field(default_factory=Counter)
    n_contaminated: int = 0
    """Records left out because they hold an item of an evaluation set that fetch found."""
    languages: Counter[str] = field(default_factory=Counter)
    code_mixing: float = 0.0
    """Mean code-mixing index (0..50) of the records that are hinglish."""

    def metrics(self) -> dict[str, Any]:
        """Return the figures of the set; recall is None when nothing was planted."""
        records = self.train + self.val
        texts = [text for r in records if r["source"] == "generated" for text in record_texts(r)]
        recall = 1 - self.n_leaked / self.n_planted if self.n_planted else None
        return {
            "n_train": len(self.train),
            "n_val": len(self.val),
            "n_real": sum(not r["synthetic"] for r in records),
            "n_synthetic": sum(r["synthetic"] for r in records),
            "n_repeated": self.n_repeated,
            "planted": self.n_planted,
            "leaked": self.n_leaked,
            "recall": recall,
            "n_contaminated": self.n_contaminated,
            **{f"language_{language}": n for language, n in sorted(self.languages.items())},
            "code_mixing_index": round(self.code_mixing, 2),
            "redacted": sum(self.redacted.values()),
            "false_positive_rate": self.n_clean_touched / max(self.n_clean, 1),
            "distinct_1": round(distinct_n(texts, 1), 4),
            "distinct_2": round(distinct_n(texts, 2), 4),
        }


def compose_logs(config: LogsConfig, extra: Path) -> LogSet:
    """Make the log set; `extra` is where the fetch stage put the sets it found."""
    logs = LogSet()
    index = index_items(evaluation_items(extra))
    seen: set[str] = set()
    records: list[dict[str, Any]] = []
    texts_of: list[str] = []
    for generated in _raw(config, extra):
        texts, counts = redact_all(record_texts(generated.record))
        logs.redacted += counts
        _count_planted(generated, " ".join(texts), logs)
        if generated.record["source"] == "generated" and not generated.planted:
            logs.n_clean += 1
            logs.n_clean_touched += bool(counts)
        record = with_texts(generated.record, texts)
        if canonical(record) in seen:
            logs.n_repeated += 1
            continue
        seen.add(canonical(record))
        records.append(record)
        texts_of.append("\n".join(texts))
    found = index.find(texts_of)
    logs.n_contaminated = sum(map(bool, found))
    tags = [tag(text) for text in texts_of]
    mixed = [code_mixing_index(text) for text, name in zip(texts_of, tags, strict=True) if name == "hinglish"]
    logs.code_mixing = sum(mixed) / max(len(mixed), 1)
    records = [
        {**record, "language": name}
        for record, name, items in zip(records, tags, found, strict=True)
        if not items
    ]
    logs.languages = Counter(record["language"] for record in records)
    sides = split_ids([r["id"] for r in records], val_fraction=config.val_fraction, seed=config.seed)
    logs.train = [record for record in records if sides[record["id"]] == "train"]
    logs.val = [record for record in records if sides[record["id"]] == "val"]
    return logs


def _count_planted(generated: Generated, scrubbed: str, logs: LogSet) -> None:
    """Count what was planted in a record and what of it is left."""
    for value, kind in zip(generated.planted, generated.kinds, strict=True):
        leaked = count_leaks([value], scrubbed)
        logs.n_planted += 1
        logs.n_leaked += leaked
        logs.planted_by_kind[kind] += 1
        logs.leaked_by_kind[kind] += leaked


def _raw(config: LogsConfig, extra: Path) -> Iterator[Generated]:
    dials: dict[str, Any] = {"seed": config.seed, "planted_fraction": config.planted_fraction}
    most = config.max_real if config.use_real_sets else 0
    real = (Generated(record=r, planted=[]) for r in real_chats(extra, most=most))
    chats = generate_chats(config.n_chats, **dials)
    return chain(chats, generate_payment_logs(config.n_payment_logs, **dials), real)
