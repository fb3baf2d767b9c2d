"""Log records to packed, prompt-masked sequences: only the assistant's words are learned from chats.

Payment logs and replayed English passages are learned whole. Replay is a share of the learned tokens, not
of the records: what a step repeats of the old data does not hang on how long a chat is.
"""

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
                if record["kind"] not in ("chat", "payment_log", "text"):
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
    path: Path,
    tokenizer: Tokenizer,
    config: SftConfig,
    *,
    seq_len: int,
    seed: int,
    replay: Path | None = None,
) -> tuple[PackedSequences, dict[str, int]]:
    """Return packed batches of a log file and counts: records, cut (those that lose their end), dropped
    (their first learned word lies behind it), sequences, learned_tokens, replay_tokens.

    `replay` is the file of English to repeat; without it (validation) nothing is repeated, whatever the dial.
    """
    records = read_records(path)
    if not config.learn_payment_logs:
        records = [record for record in records if record["kind"] == "chat"]
    if 0 < (n := config.max_records) < len(records):  # evenly spread: the file lies source by source
        records = [records[i * len(records) // n] for i in range(n)]
    samples = [encode_record(tokenizer, record) for record in records]
    teaches = [_learned([sample], seq_len) > 0 for sample in samples]
    repeated = []
    if replay is not None and config.replay_fraction:
        share = config.replay_fraction / (1 - config.replay_fraction)
        repeated = _take(replay, tokenizer, _learned(samples, seq_len) * share, seq_len)
    rows, learned = pack_sequences(samples + repeated, seq_len + 1, tokenizer.end_of_text)
    counts = {
        "records": len(records),
        "sequences": len(rows),
        "cut": sum(
            is_kept and len(ids) > seq_len + 1 for is_kept, (ids, _) in zip(teaches, samples, strict=True)
        ),
        "dropped": teaches.count(False),
        "learned_tokens": int(learned.sum()),
        "replay_tokens": _learned(repeated, seq_len),
    }
    return PackedSequences(rows, learned, seed), counts


def _take(path: Path, tokenizer: Tokenizer, wanted: float, seq_len: int) -> list[Masked]:
    """Encode replay records in the file's order until they teach `wanted` tokens; refuse too few."""
    taken: list[Masked] = []
    have = 0
    # an empty file is no reason to ask for more chats
    for record in read_records(path) if path.stat().st_size else ():
        if have >= wanted:
            return taken
        taken.append(encode_record(tokenizer, record))
        have += _learned(taken[-1:], seq_len)
    if have < wanted:
        raise ValueError(
            f"finetune.data.replay_fraction: {wanted:.0f} tokens are wanted, {path} holds {have}; "
            "raise logs.n_replay (or fetch more text), or lower finetune.data.replay_fraction"
        )
    return taken


def _learned(samples: list[Masked], seq_len: int) -> int:
    """Count the tokens that samples teach after the cut to a row; a row's first token is never learned."""
    return sum(sum(learned[1 : seq_len + 1]) for _, learned in samples)
