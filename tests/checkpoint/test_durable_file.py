"""gpt/checkpoint/durable_file.py: the hash made while writing is the file's."""

import hashlib
from pathlib import Path

import pytest

from gpt.checkpoint import durable_file
from gpt.checkpoint.durable_file import write_durably


def test_the_hash_is_that_of_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a chunk longer than a slab hashed or written in part; an empty one that ends the file."""
    monkeypatch.setattr(durable_file, "SLAB_BYTES", 4)
    chunks = [b"0123456789", b"", memoryview(b"abcd"), b"x"]
    digest = write_durably(tmp_path / "x", chunks)
    assert (tmp_path / "x").read_bytes() == b"0123456789abcdx"
    assert digest == hashlib.sha256(b"0123456789abcdx").hexdigest()
