"""Planted values with the words before them: what a memorization test asks a tuned model to complete.

A row is {"kind", "value", "prefix", "role", "turns", "in_logs"}: `prefix` is what stands before the value in
its message, `role` who says it (null in a payment log), `turns` are the messages before that one, all as
they were before the scrubber. Values with few
possibilities are left out: a name out of a list would come up by chance (Carlini et al. 2019,
arXiv 1802.08232, plant random numbers for that reason). The rows are for sampling alone and are no
training data: no training file holds one of the values.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from gpt.corpus.log_record import Draft, record_texts
from gpt.corpus.split import unit_hash

N_CANARIES = 1000
RANDOM_KINDS = frozenset({"PHONE", "CARD", "AADHAAR", "PAN", "IFSC", "ACCOUNT", "UPI", "EMAIL"})


def choose_canaries(in_logs: Iterable[Draft], more: Iterable[Draft]) -> list[dict[str, Any]]:
    """Return N_CANARIES rows: values of training records, then of `more`, which was in no record."""
    rows: dict[str, dict[str, Any]] = {}
    trained = [row for draft in in_logs for row in _rows(draft, in_logs=True)]
    for row in sorted(trained, key=lambda row: unit_hash(row["value"], 0)):
        if len(rows) < N_CANARIES:
            rows.setdefault(row["value"], row)
    for draft in more:
        if len(rows) >= N_CANARIES:
            break
        for row in _rows(draft, in_logs=False):
            if len(rows) < N_CANARIES:
                rows.setdefault(row["value"], row)
    return list(rows.values())


def _rows(draft: Draft, *, in_logs: bool) -> Iterator[dict[str, Any]]:
    texts = record_texts(draft.record)
    for value, kind in zip(draft.planted, draft.kinds, strict=True):
        place = next((i for i, text in enumerate(texts) if value in text), None)
        if kind not in RANDOM_KINDS or place is None:
            continue
        messages = draft.record.get("messages")
        yield {
            "kind": kind,
            "value": value,
            "prefix": texts[place][: texts[place].index(value)],
            "role": messages[place]["role"] if messages else None,
            "turns": messages[:place] if messages else [],
            "in_logs": in_logs,
        }
