"""Preference pairs: one prompt, a chosen answer, a rejected one. All are derived; no person ranked any.

From the parallel Code-Mixed-Dialog sets: the customer writes Hinglish, the chosen answer is the set's
Hinglish one, the rejected one the same answer of the English original. Both are people's words; that the
first is preferred is this project's rule. Where those sets are absent, pairs of the project's generator:
the rejected answer is in English, or it repeats the account number that the customer gave. Synthetic.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gpt.corpus.instructions import READERS
from gpt.corpus.redact import redact_all
from gpt.corpus.split import unit_hash

PARALLEL = {
    "codemixed_dstc2_hi_trn": "codemixed_dstc2_en_trn",
    "codemixed_dstc2_hi_dev": "codemixed_dstc2_en_dev",
}
"""Hinglish set -> the set of its English originals, dialog for dialog."""
OPENINGS = (
    "We are sorry for the trouble.",
    "Thank you for writing to us.",
    "I understand how worrying this is.",
    "Please do not worry.",
    "Sure, I can help you with that.",
)
BODIES = (
    "Your payment failed because the bank did not respond, and the money will come back within three days.",
    "The refund has been started and will reach your bank account within five working days.",
    "Your card has been blocked and a new one will arrive at your address next week.",
    "You can change the limit in the settings of the app under payments.",
    "The document was not readable, so please upload a clear photo again.",
    "Your loan request is under review and you will hear from us by tomorrow evening.",
    "The merchant has not confirmed the order yet, which is why the amount is on hold.",
    "You can stop the autopay in the app, and no further amount will be taken.",
    "The statement of the last month has been sent to your registered email address.",
    "Please restart the app and try again after ten minutes.",
)
CLOSINGS = ("", "Is there anything else I can do?", "Have a nice day.", "We will keep you informed.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two answers to one prompt."""

    id: str
    source: str
    synthetic: bool
    prompt: tuple[dict[str, str], ...]
    """Messages; the last is the customer's."""
    chosen: str
    rejected: str


def with_account(messages: Iterable[dict[str, str]], record_id: str) -> tuple[list[dict[str, str]], str]:
    """Return the messages with an invented account number behind the last one, and its 12 digits."""
    rng = random.Random(f"account {record_id}")
    digits = str(rng.randint(1, 9)) + "".join(rng.choice("0123456789") for _ in range(11))
    *before, last = messages
    told = f"{last['content']}. Mera account number {digits} hai"
    return [*before, {**last, "content": told}], digits


def preference_pairs(records: Iterable[dict[str, Any]], extra: Path) -> list[Pair]:
    """Return the pairs of scrubbed log records, in a fixed order that mixes them.

    Parallel pairs if the English originals of any record are below `extra`, else generated ones.
    """
    records = list(records)
    pairs = [pair for record in records for pair in _parallel(record, extra)]
    pairs = pairs or [pair for record in records for pair in _generated(record)]
    return sorted(pairs, key=lambda pair: (unit_hash(pair.id, 0), pair.id))


def _parallel(record: dict[str, Any], extra: Path) -> Iterator[Pair]:
    """Yield a pair for every answer of a Hinglish dialog whose English original was found."""
    english = PARALLEL.get(record["source"])
    if english is None or not (extra / english).is_dir():
        return
    place = int(record["id"].rpartition("-")[2])
    messages, originals = record["messages"], _originals(extra / english)[place]
    if [m["role"] for m in messages] != [m["role"] for m in originals]:
        raise ValueError(
            f"{extra / english}: dialog {place} is not that of {record['id']}; the two sets are not of one "
            "release: fetch both again"
        )
    answers, _ = redact_all([m["content"] for m in originals])
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            yield Pair(
                id=f"{record['id']}-{i}",
                source=record["source"],
                synthetic=False,
                prompt=tuple(messages[:i]),
                chosen=message["content"],
                rejected=answers[i],
            )


@cache
def _originals(folder: Path) -> list[list[dict[str, str]]]:
    (path,) = folder.iterdir()
    return list(READERS["codemixed_dstc2_hi_trn"](path))


def _generated(record: dict[str, Any]) -> Iterator[Pair]:
    """Yield a pair for the first answer of a generated chat: against an English one, or against a leak."""
    if record["source"] != "generated" or record["kind"] != "chat":
        return
    messages, rng = record["messages"], random.Random(f"pair {record['id']}")
    prompt, chosen = messages[:1], messages[1]["content"]
    if rng.random() < 0.5:
        rejected = " ".join(rng.choice(part) for part in (OPENINGS, BODIES, CLOSINGS)).strip()
    else:
        prompt, digits = with_account(prompt, record["id"])
        rejected = f"{chosen}. Aapka account number {digits} hai"
    yield Pair(
        id=record["id"],
        source=record["source"],
        synthetic=True,
        prompt=tuple(prompt),
        chosen=chosen,
        rejected=rejected,
    )
