"""Bits per byte of the held-out logs, each model asked in the form that it knows.

Scored are the assistant's words of a chat and all of a payment log. A tuned model reads a chat in its
template; a base that never saw one reads the same messages as lines of plain text. The token that ends a
turn or a line is scored in both, its bytes are not: bytes are those of the words.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt.evaluate.json_lines import numbered_lines
from gpt.evaluate.perplexity import token_bytes
from gpt.evaluate.score import Score, evenly, ratio_score
from gpt.evaluate.token_nats import token_nats
from gpt.model.transformer import Transformer
from gpt.tokenizer.chat_template import encode_chat
from gpt.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """One held-out record."""

    source: str
    language: str
    kind: str
    ids: list[int]
    scored: list[bool]
    is_word: list[bool]
    """Of the scored ones those whose bytes count: all but what closes a turn or a line."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The figures that the record counts for."""
        return ("all", f"language {self.language}", f"source {self.source} ({self.kind})")


def read_words(
    path: Path, tokenizer: Tokenizer, limit: int, max_tokens: int, *, as_chat: bool
) -> list[Words]:
    """Encode `limit` records of each source of a log file (0: all), cut to max_tokens + 1 tokens.

    Raises ValueError that names file and line.
    """
    by_source: dict[str, list[dict[str, Any]]] = {}
    for number, line in numbered_lines(path):
        try:
            record = json.loads(line)
            by_source.setdefault(record["source"], []).append(record)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: not a log record ({error!r})") from None
    words = []
    for source, records in sorted(by_source.items()):
        for record in evenly(records, limit):
            ids, scored, is_word = encode(tokenizer, record, as_chat=as_chat)
            cut = slice(max_tokens + 1)
            ids, scored, is_word = ids[cut], scored[cut], is_word[cut]
            if any(scored[1:]):
                language, kind = record.get("language", "other"), record["kind"].replace("_", " ")
                words.append(
                    Words(
                        source=source, language=language, kind=kind, ids=ids, scored=scored, is_word=is_word
                    )
                )
    return words


def encode(
    tokenizer: Tokenizer, record: dict[str, Any], *, as_chat: bool
) -> tuple[list[int], list[bool], list[bool]]:
    """Return a record's tokens, which of them are scored, and which of those are words."""
    end = tokenizer.end_of_text
    if record["kind"] == "payment_log":
        text = tokenizer.encode(record["text"])
        said = [True] * len(text)
        return [end, *text, end], [False, *said, True], [False, *said, False]
    if as_chat:
        ids, scored = encode_chat(tokenizer, record["messages"])
        return ids, scored, scored  # what closes a turn has no bytes
    ids, scored, is_word = [end], [False], [False]
    for message in record["messages"]:
        text, newline = tokenizer.encode(message["content"]), tokenizer.encode("\n")
        is_said = message["role"] == "assistant"
        ids += [*text, *newline]
        scored += [is_said] * (len(text) + len(newline))
        is_word += [is_said] * len(text) + [False] * len(newline)
    return ids, scored, is_word


def bits_per_byte(
    model: Transformer, tokenizer: Tokenizer, words: list[Words], batch_tokens: int
) -> dict[str, Score]:
    """Return bits per byte of every group, its standard error over records."""
    sizes = token_bytes(tokenizer)
    nats = token_nats(model, [(w.ids, w.scored) for w in words], batch_tokens)
    groups: dict[str, tuple[list[float], list[int]]] = {}
    for w, piece in zip(words, nats, strict=True):
        n_bytes = int(sizes[np.array(w.ids)[w.is_word]].sum())
        for group in w.groups:
            bits, counts = groups.setdefault(group, ([], []))
            bits.append(float(piece.double().sum()) / math.log(2))
            counts.append(n_bytes)
    return {
        group: ratio_score("bits_per_byte", bits, counts, "record")
        for group, (bits, counts) in sorted(groups.items())
    }
