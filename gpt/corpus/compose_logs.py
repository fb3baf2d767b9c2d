"""The log set: generated and real records, scrubbed, each once, on the side that its maker gave it."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt.corpus.canaries import choose_canaries
from gpt.corpus.config import LogsConfig
from gpt.corpus.contamination import EvaluationIndex, index_items
from gpt.corpus.evaluation_sets import evaluation_items
from gpt.corpus.hinglish import generate_chats, generate_payment_logs, generate_queries
from gpt.corpus.instructions import instruction_drafts, intent_queries, real_drafts
from gpt.corpus.intents import Query, held_out
from gpt.corpus.language import tag
from gpt.corpus.log_counts import LogCounts
from gpt.corpus.log_record import Draft, canonical, record_texts, with_texts
from gpt.corpus.own_logs import OwnLogs, read_own_logs
from gpt.corpus.redact import redact_all
from gpt.corpus.replay import passages
from gpt.corpus.split import unit_hash

INTENT_SEED, CANARY_SEED = 2_000_003, 1_000_003
"""Added to the section's seed: other chats than those of the log set."""
INTENT_VAL_FRACTION = 0.2
"""Of the generated queries: their number is small, and so is the standard error wanted."""
SPLIT_RULE = (
    "generated and own: by the hash of the id; "
    "real: by the set's own split where it has one, else by the hash of the id; "
    "no scrubbed text is on both sides"
)


@dataclass(kw_only=True, slots=True)
class LogSet:
    """Scrubbed records, and what is measured with."""

    train: list[dict[str, Any]] = field(default_factory=list)
    val: list[dict[str, Any]] = field(default_factory=list)
    replay: list[dict[str, Any]] = field(default_factory=list)
    """English to repeat: no part of train."""
    intents: list[dict[str, str]] = field(default_factory=list)
    """Held-out queries, scrubbed: {"set", "text", "label", "prompt"}."""
    intent_labels: dict[str, list[str]] = field(default_factory=dict)
    canaries: list[dict[str, Any]] = field(default_factory=list)
    """Planted values as they were before the scrubber: no training data."""
    counts: LogCounts = field(default_factory=LogCounts)
    own: OwnLogs = field(default_factory=OwnLogs)
    """Your own logs: what was read and what was refused."""

    def metrics(self) -> dict[str, Any]:
        """Return the figures of the set."""
        return {
            "n_train": len(self.train),
            "n_val": len(self.val),
            "n_replay": len(self.replay),
            "n_intents_held_out": len(self.intents),
            "n_canaries": len(self.canaries),
            **self.own.metrics(),
            **self.counts.metrics(self.train + self.val),
        }

    def summary(self) -> dict[str, Any]:
        """Return what a reader of the set must know beside its figures."""
        records = self.train + self.val
        return {
            "records_by_source": dict(sorted(Counter(r["source"] for r in records).items())),
            "val_by_source": dict(sorted(Counter(r["source"] for r in self.val).items())),
            "replay_by_source": dict(sorted(Counter(r["source"] for r in self.replay).items())),
            "languages": dict(sorted(self.counts.languages.items())),
            "redacted_by_kind": dict(sorted(self.counts.redacted.items())),
            "recall_by_kind": {
                kind: {"planted": n, "leaked": self.counts.leaked_by_kind[kind]}
                for kind, n in sorted(self.counts.planted_by_kind.items())
            },
            "own_lines_refused": self.own.named,
            "split": SPLIT_RULE,
            "intents": "held-out queries for scoring accuracy; their closed lists are in intent_labels.json",
            "canaries": "planted values before the scrubber, for sampling alone: never training data",
            "recall_is_measured_on": "canaries of the generator in gpt/corpus/planted.py, not on people",
            "false_positive_rate_is_measured_on": "generated records without planted data",
        }


def compose_logs(config: LogsConfig, files: Path) -> LogSet:
    """Make the log set; `files` is what the fetch stage wrote: documents and the sets it found."""
    extra = files / "extra"
    split: dict[str, Any] = {"val_fraction": config.val_fraction, "seed": config.seed}
    index = index_items(evaluation_items(extra))
    made = LogSet()
    real = list(intent_queries(extra, **split)) if config.use_real_sets else []
    queries = [*real, *_generated_queries(config)]
    rows, made.intent_labels = held_out(queries)
    made.intents = [_scrubbed_row(row, made.counts) for row in rows]
    made.own = read_own_logs(config.own, **split)
    drafts = [*_drafts(config, extra, real, queries), *made.own.drafts]
    records = _scrub(drafts, index, made.counts, seen=set())
    made.train = [record for draft, record in records if draft.side == "train"]
    made.val = [record for draft, record in records if draft.side == "val"]
    made.counts.add_languages(made.train + made.val)
    _refuse_an_empty_side(made)
    made.replay = _replay(config, files, index, made)
    trained = (draft for draft, _ in records if draft.side == "train")
    more = generate_chats(10**6, seed=config.seed + CANARY_SEED, planted_fraction=1.0)
    made.canaries = choose_canaries(trained, more)
    return made


def _drafts(config: LogsConfig, extra: Path, real: list[Query], queries: list[Query]) -> Iterator[Draft]:
    dials = {"planted_fraction": config.planted_fraction, "val_fraction": config.val_fraction}
    yield from generate_chats(config.n_chats, seed=config.seed, **dials)
    yield from generate_payment_logs(config.n_payment_logs, seed=config.seed, **dials)
    yield from (query.draft for query in queries if query.is_synthetic and query.side == "train")
    if config.use_real_sets:
        split: dict[str, Any] = {"val_fraction": config.val_fraction, "seed": config.seed}
        yield from real_drafts(extra, real, most=config.max_real, **split)


def _generated_queries(config: LogsConfig) -> Iterator[Query]:
    seed = config.seed + INTENT_SEED
    yield from generate_queries(config.n_intents, seed=seed, val_fraction=INTENT_VAL_FRACTION)


def _scrub(
    drafts: list[Draft], index: EvaluationIndex, counts: LogCounts, *, seen: set[str]
) -> list[tuple[Draft, dict[str, Any]]]:
    """Return the drafts with their scrubbed records, without repeats and evaluation items.

    An own record's id is a hash of its scrubbed text: one of the raw text could be searched for.
    """
    records: list[tuple[Draft, dict[str, Any]]] = []
    for draft in drafts:
        texts, redacted = redact_all(record_texts(draft.record))
        counts.add(draft, " ".join(texts), redacted)
        record = with_texts(draft.record, texts)
        whole = canonical(record)
        if whole in seen:
            counts.n_repeated += 1
            continue
        seen.add(whole)
        if record["source"] == "own":
            record["id"] = f"own-{hashlib.sha256(whole.encode()).hexdigest()[:16]}"
        records.append((draft, record))
    texts_of = ["\n".join(record_texts(record)) for _, record in records]
    found = index.find(texts_of)
    counts.n_contaminated += sum(map(bool, found))
    rows = zip(records, texts_of, found, strict=True)
    return [(draft, {**record, "language": tag(text)}) for (draft, record), text, items in rows if not items]


def _replay(config: LogsConfig, files: Path, index: EvaluationIndex, made: LogSet) -> list[dict[str, Any]]:
    """Return English passages and the instructions that train does not hold, in an order by hash."""
    if config.n_replay == 0:
        return []
    split: dict[str, Any] = {"val_fraction": config.val_fraction, "seed": config.seed}
    extra = files / "extra"
    drafts = list(instruction_drafts(extra, **split)) if config.use_real_sets else []
    drafts = sorted(drafts, key=lambda draft: unit_hash(draft.record["id"], 0))[: config.n_replay // 2]
    for record in passages(files, most=config.n_replay - len(drafts), seed=config.seed):
        drafts.append(Draft(record=record, side="train"))
    seen = {canonical(record) for record in made.train + made.val}
    records = [record for _, record in _scrub(drafts, index, LogCounts(), seen=seen)]
    return sorted(records, key=lambda record: unit_hash(record["id"], config.seed))


def _scrubbed_row(row: dict[str, str], counts: LogCounts) -> dict[str, str]:
    (text, prompt), redacted = redact_all([row["text"], row["prompt"]])
    counts.redacted += redacted
    return {**row, "text": text, "prompt": prompt}


def _refuse_an_empty_side(made: LogSet) -> None:
    for name, records in (("train", made.train), ("val", made.val)):
        if not records:
            raise ValueError(
                f"logs.val_fraction: no record is on the {name} side of {len(made.train + made.val)}; "
                "ask for more records (logs.n_chats) or change logs.val_fraction"
            )
