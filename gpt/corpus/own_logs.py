"""A user's own logs out of a folder: chats and raw lines, with every line that is refused named.

Files .jsonl, .csv (a header names the columns), .log and .txt (a payment log a line). A record is a chat
(`messages_field`, in a CSV as JSON), a question and its answer (`prompt_field`, `response_field`) or a raw
line (`text_field`). Nothing is scrubbed here: compose_logs.py does it to all records alike, and neither the
ids nor the messages of this file hold a word of the content.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt.corpus.clean import clean
from gpt.corpus.config import OwnLogsConfig
from gpt.corpus.log_lines import BadInput, Line, read_lines
from gpt.corpus.log_record import Draft, canonical, chat_record
from gpt.corpus.redact import redact
from gpt.corpus.split import side_of

ROLES = {
    "system": "system",
    **dict.fromkeys(("user", "customer", "client", "human"), "user"),
    **dict.fromkeys(("assistant", "agent", "bot", "support"), "assistant"),
}
RAW_KINDS = (".log", ".txt")
KINDS = (".jsonl", ".csv", *RAW_KINDS)
N_NAMED = 100
"""Bad lines that are named; all are counted."""


@dataclass(kw_only=True, slots=True)
class OwnLogs:
    """What a folder held."""

    drafts: list[Draft] = field(default_factory=list)
    n_lines: int = 0
    """Lines that are not blank; a CSV's header is none."""
    n_bad: int = 0
    n_recoded: int = 0
    """Lines read as Windows-1252."""
    n_empty_turns: int = 0
    """Turns without a word, left out of their chats."""
    bad_by_rule: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)
    """`file:line: rule` of the first bad lines."""

    def refuse(self, path: str, number: int, rule: str, n_lines: int = 1) -> None:
        """Count bad lines and name the first; a file's name may be a customer's number, so it is scrubbed."""
        self.n_bad += n_lines
        self.bad_by_rule[rule] += n_lines
        if len(self.named) < N_NAMED:
            self.named.append(f"{redact(path)[0]}:{number}: {rule}")

    def metrics(self) -> dict[str, int]:
        """Return the counts, one for each rule that refused something."""
        return {
            "own_lines": self.n_lines,
            "own_bad": self.n_bad,
            "own_recoded": self.n_recoded,
            "own_empty_turns": self.n_empty_turns,
            **{f"own_bad_{rule}": n for rule, n in sorted(self.bad_by_rule.items())},
        }


def read_own_logs(config: OwnLogsConfig, *, val_fraction: float, seed: int) -> OwnLogs:
    """Read the folder. Raises ValueError for a missing folder, a file of another kind, and more bad lines
    than max_bad_fraction, by file and line."""
    logs = OwnLogs()
    if not config.folder:
        return logs
    root = Path(config.folder)
    if not root.is_dir():
        raise ValueError(f"logs.own.folder: {root}: no such folder; make it, or set it to '' for none")
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir() or path.suffix == ".md" or any(part.startswith(".") for part in name.split("/")):
            continue
        if path.suffix not in KINDS:
            raise ValueError(
                f"logs.own.folder: {redact(str(path))[0]}: kinds that are read: {' '.join(KINDS)}; "
                "convert or unpack it, or take it away"
            )
        for number, row in _rows(path, name, logs, config):
            try:
                record = _record(row, config, logs)
            except BadInput as error:
                logs.refuse(name, number, str(error))
                continue
            side = side_of(canonical(record), seed, val_fraction)
            logs.drafts.append(Draft(record=record, side=side))
    if logs.n_bad > config.max_bad_fraction * logs.n_lines:
        raise ValueError(
            f"logs.own.max_bad_fraction: {logs.n_bad} of {logs.n_lines} lines are bad, "
            f"more than {config.max_bad_fraction}: {', '.join(logs.named[:5])}; mend them or raise the dial"
        )
    return logs


Rows = Iterator[tuple[int, dict[str, Any]]]


def _rows(path: Path, name: str, logs: OwnLogs, config: OwnLogsConfig) -> Rows:
    """Yield (line number, fields) of a file; what cannot be split into fields is refused here."""

    def good(*, with_blank: bool = False) -> Iterator[Line]:
        for line in read_lines(path):
            if is_content := bool(line.bad or line.text.strip()):
                logs.n_lines += 1
                logs.n_recoded += line.is_recoded
            if line.bad:
                logs.refuse(name, line.number, line.bad)
            elif is_content or with_blank:
                yield line

    readers: dict[str, Callable[[], Rows]] = {
        ".jsonl": lambda: _json_rows(good(), name, logs),
        ".csv": lambda: _csv_rows(good(with_blank=True), name, logs),
    }
    reader = readers.get(path.suffix)
    yield from reader() if reader else ((line.number, {config.text_field: line.text}) for line in good())


def _json_rows(lines: Iterator[Line], name: str, logs: OwnLogs) -> Rows:
    for line in lines:
        try:
            row = json.loads(line.text)
        except (ValueError, RecursionError):
            logs.refuse(name, line.number, "not_json")
            continue
        if isinstance(row, dict):
            yield line.number, row
        else:
            logs.refuse(name, line.number, "not_an_object")


def _csv_rows(lines: Iterator[Line], name: str, logs: OwnLogs) -> Rows:
    """Read rows; one may run over several lines. An open quote swallows lines up to the csv module's limit
    of a field: all of them are bad, named by the first."""
    taken: list[int] = []
    """Numbers of the lines that the row being read is made of, blank ones left out."""

    def texts() -> Iterator[str]:
        for line in lines:
            if line.text.strip():
                taken.append(line.number)
            yield line.text + "\n"

    reader = csv.reader(texts(), strict=True)
    header: list[str] = []
    while True:
        taken.clear()
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            logs.refuse(name, taken[0], "not_csv", len(taken))
            continue
        if not row:
            continue  # a blank line between two rows
        if not header:
            header = row
            logs.n_lines -= 1
        elif len(row) != len(header):
            logs.refuse(name, taken[0], "columns", len(taken))
        else:
            yield taken[0], dict(zip(header, row, strict=True))


def _record(row: dict[str, Any], config: OwnLogsConfig, logs: OwnLogs) -> dict[str, Any]:
    """Turn a row into a record; raises BadInput with the rule that refuses it."""
    if config.messages_field in row:
        turns = _turns(row[config.messages_field], config)
    elif config.prompt_field in row and config.response_field in row:
        turns = [("user", row[config.prompt_field]), ("assistant", row[config.response_field])]
    elif config.text_field in row:
        text = _text(row[config.text_field], config)
        if not text:
            raise BadInput("empty")
        return {"id": "own", "kind": "payment_log", "source": "own", "synthetic": False, "text": text}
    else:
        raise BadInput("no_known_field")
    messages: list[dict[str, str]] = []
    for role, content in turns:
        text = _text(content, config)
        if not text:
            logs.n_empty_turns += 1
        elif messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n" + text
        else:
            messages.append({"role": role, "content": text})
    if not any(message["role"] == "assistant" for message in messages):
        raise BadInput("no_answer")
    return chat_record("own", "own", messages, is_synthetic=False)


def _turns(value: Any, config: OwnLogsConfig) -> list[tuple[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadInput("messages_not_json") from None
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise BadInput("messages_not_a_list")
    turns = []
    for turn in value:
        role = turn.get(config.role_field)
        if not isinstance(role, str) or role.lower() not in ROLES:
            raise BadInput("unknown_role")
        turns.append((ROLES[role.lower()], turn.get(config.content_field)))
    return turns


def _text(value: Any, config: OwnLogsConfig) -> str:
    if not isinstance(value, str):
        raise BadInput("not_text")
    if "\0" in value:
        raise BadInput("nul_byte")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise BadInput("half_a_character")  # an emoji that a length limit cut in UTF-16
    text = clean(value).strip()
    if len(text) > config.max_turn_chars:
        raise BadInput("turn_too_long")
    return text
