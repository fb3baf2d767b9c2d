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
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            by_source.setdefault(record["source"], []).append(record)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: not a log record ({error!r})") from None
    words = []
    for source, records in sorted(by_source.items()):
        for record in evenly(records, limit):
            ids, scored = encode(tokenizer, record, as_chat=as_chat)
            ids, scored = ids[: max_tokens + 1], scored[: max_tokens + 1]
            if any(scored[1:]):
                language, kind = record.get("language", "other"), record["kind"].replace("_", " ")
                words.append(Words(source=source, language=language, kind=kind, ids=ids, scored=scored))
    return words


def encode(tokenizer: Tokenizer, record: dict[str, Any], *, as_chat: bool) -> tuple[list[int], list[bool]]:
    """Return a record's tokens and which of them are scored."""
    end = tokenizer.end_of_text
    if record["kind"] == "payment_log":
        text = tokenizer.encode(record["text"])
        return [end, *text, end], [False, *[True] * (len(text) + 1)]
    if as_chat:
        return encode_chat(tokenizer, record["messages"])
    ids, scored = [end], [False]
    for message in record["messages"]:
        line = [*tokenizer.encode(message["content"]), *tokenizer.encode("\n")]
        ids += line
        scored += [message["role"] == "assistant"] * len(line)
    return ids, scored


def bits_per_byte(
    model: Transformer, tokenizer: Tokenizer, words: list[Words], batch_tokens: int
) -> dict[str, Score]:
    """Return bits per byte of every group, its standard error over records."""
    sizes = token_bytes(tokenizer)
    newline = tokenizer.encode("\n")[0]
    nats = token_nats(model, [(w.ids, w.scored) for w in words], batch_tokens)
    groups: dict[str, tuple[list[float], list[int]]] = {}
    for w, piece in zip(words, nats, strict=True):
        said = [i for i, is_scored in zip(w.ids[1:], w.scored[1:], strict=True) if is_scored]
        n_bytes = int(sizes[said].sum()) - (said[-1] == newline)
        for group in w.groups:
            bits, counts = groups.setdefault(group, ([], []))
            bits.append(float(piece.double().sum()) / math.log(2))
            counts.append(n_bytes)
    return {
        group: ratio_score("bits_per_byte", bits, counts, "record")
        for group, (bits, counts) in sorted(groups.items())
    }
