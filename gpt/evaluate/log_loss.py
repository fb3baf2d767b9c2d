"""Held-out logs: records as token sequences, and the loss on them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt.evaluate.score import Score, absent_score, ratio_score
from gpt.evaluate.token_nats import token_nats
from gpt.model.transformer import Transformer
from gpt.tokenizer.chat_template import encode_chat
from gpt.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class LogSequence:
    """One record in tokens."""

    ids: list[int]
    answer: list[bool]
    """Whether a token is the assistant's; a payment log has none."""


def read_log_sequences(path: Path, tokenizer: Tokenizer) -> list[LogSequence]:
    """Encode the records of a log file; raises ValueError that names file and line."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run `dvc repro logs` first")
    sequences = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                if record["kind"] == "chat":
                    ids, answer = encode_chat(tokenizer, record["messages"])
                elif record["kind"] == "payment_log":
                    ids = [*tokenizer.encode(record["text"]), tokenizer.end_of_text]
                    answer = [False] * len(ids)
                else:
                    raise ValueError(f"kind: got {record['kind']!r}; chat or payment_log is read")
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{number}: not a log record ({error!r})") from None
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from None
            sequences.append(LogSequence(ids=ids, answer=answer))
    if not sequences:
        raise ValueError(f"{path}: empty; run `dvc repro -f logs`")
    return sequences


def log_scores(
    model: Transformer, sequences: Sequence[LogSequence], max_tokens: int, batch_tokens: int
) -> list[Score]:
    """Return logs_loss (the assistants' tokens) and logs_loss_all, in nats a token over records.

    A record is cut to max_tokens + 1 tokens.
    """
    cut = [(s.ids[: max_tokens + 1], s.answer[: max_tokens + 1]) for s in sequences]
    nats = token_nats(model, [(ids, [True] * len(ids)) for ids, _ in cut], batch_tokens)
    answers = [
        (float(n[a].double().sum()), sum(a)) for n, (_, (_, *a)) in zip(nats, cut, strict=True) if any(a)
    ]
    everything = ratio_score(
        "logs_loss_all", [float(n.double().sum()) for n in nats], [len(n) for n in nats], "record"
    )
    if not answers:
        reason = "no assistant speaks in the held-out logs"
        return [absent_score("logs_loss", reason, "record"), everything]
    return [ratio_score("logs_loss", [a[0] for a in answers], [a[1] for a in answers], "record"), everything]
