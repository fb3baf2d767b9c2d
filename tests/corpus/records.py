"""Records as docs/architecture.md describes them, and sets as fetch leaves them."""

import bz2
from pathlib import Path
from typing import Any

from gpt.corpus.config import OwnLogsConfig


def check_record(record: dict[str, Any]) -> None:
    """The log record format of docs/architecture.md."""
    assert isinstance(record["id"], str)
    assert isinstance(record["source"], str)
    assert isinstance(record["synthetic"], bool)
    if record["kind"] == "payment_log":
        assert set(record) == {"id", "kind", "source", "synthetic", "text"}
        assert record["text"].strip()
        return
    assert record["kind"] == "chat"
    assert set(record) == {"id", "kind", "source", "synthetic", "messages"}
    roles = [message["role"] for message in record["messages"]]
    assert roles == ["user", "assistant"] * (len(roles) // 2)
    assert len(roles) >= 2
    assert all(message["content"].strip() for message in record["messages"])


def pack(folder: Path, name: str, suffix: str, text: str) -> None:
    """Write a set as the fetch stage does."""
    (folder / name).mkdir(parents=True)
    (folder / name / f"{name}{suffix}.bz2").write_bytes(bz2.compress(text.encode()))


def own_config(folder: str = "", **changes: Any) -> OwnLogsConfig:
    """The own-logs dials of the laptop profile."""
    dials: dict[str, Any] = {
        "folder": folder,
        "messages_field": "messages",
        "role_field": "role",
        "content_field": "content",
        "prompt_field": "prompt",
        "response_field": "response",
        "text_field": "text",
        "max_turn_chars": 1000,
        "max_bad_fraction": 0.01,
    }
    return OwnLogsConfig(**{**dials, **changes})
