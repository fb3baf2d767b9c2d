"""A log record on its way to the scrubber: the record, what was planted in it, the side it stands on."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

Side = Literal["train", "val"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A record before it is scrubbed."""

    record: dict[str, Any]
    side: Side
    planted: list[str] = field(default_factory=list)
    """Invented personal data in it."""
    kinds: list[str] = field(default_factory=list)
    """The kind of each planted value (PHONE, NAME_HI, ...)."""
    templates: frozenset[str] = frozenset()
    """The frames of the grammar that it was made of; empty for a record that nobody generated."""
    intent: str = ""
    """What the customer wants, for a generated chat."""


def record_texts(record: dict[str, Any]) -> list[str]:
    """List the texts of a chat or of a record that is one text."""
    return [m["content"] for m in record["messages"]] if "messages" in record else [record["text"]]


def with_texts(record: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    """Return the record with other texts, in the order of record_texts."""
    if "messages" not in record:
        return {**record, "text": texts[0]}
    pairs = zip(record["messages"], texts, strict=True)
    return {**record, "messages": [{**message, "content": text} for message, text in pairs]}


def canonical(record: dict[str, Any]) -> str:
    """Return a record's texts as one string: equal strings are duplicates."""
    return json.dumps(record_texts(record), ensure_ascii=False)


def chat_record(
    key: str, source: str, messages: list[dict[str, str]], *, is_synthetic: bool
) -> dict[str, Any]:
    """Return a chat in the record format."""
    return {"id": key, "kind": "chat", "source": source, "synthetic": is_synthetic, "messages": messages}
