"""Log records to packed, prompt-masked sequences: only the assistant's words are learned from chats."""

import json
from pathlib import Path

from gpt.dataset.loader import PackedSequences
from gpt.dataset.packing import Masked, pack_sequences
from gpt.finetune.config import SftConfig
from gpt.tokenizer.chat_template import encode_chat
from gpt.tokenizer.tokenizer import Tokenizer


def read_records(path: Path) -> list[dict]:
    """Read log records; raises ValueError with file and line number for a broken one."""
    records = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                if record["kind"] not in ("chat", "payment_log"):
                    raise KeyError("kind")
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{path}:{number}: not a log record; run `dvc repro -f logs`") from None
            records.append(record)
    if not records:
        raise ValueError(f"{path}: no records; raise logs.n_chats and run `dvc repro logs`")
    return records


def encode_record(tokenizer: Tokenizer, record: dict) -> Masked:
    """Return a record's ids and which of them are learned."""
    if record["kind"] == "chat":
        return encode_chat(tokenizer, record["messages"])
    ids = [tokenizer.end_of_text, *tokenizer.encode(record["text"]), tokenizer.end_of_text]
    return ids, [False] + [True] * (len(ids) - 1)


def sft_batches(
    path: Path, tokenizer: Tokenizer, config: SftConfig, *, seq_len: int, seed: int
) -> tuple[PackedSequences, dict[str, int]]:
    """Return packed batches of a log file and counts: records, sequences, cut, learned_tokens."""
    records = read_records(path)
    if not config.learn_payment_logs:
        records = [record for record in records if record["kind"] == "chat"]
    records = records[: config.max_records or None]
    samples = [encode_record(tokenizer, record) for record in records]
    rows, learned, cut = pack_sequences(samples, seq_len + 1, tokenizer.end_of_text)
    counts = {
        "records": len(records),
        "sequences": len(rows),
        "cut": cut,
        "learned_tokens": int(learned.sum()),
    }
    return PackedSequences(rows, learned, seed), counts
