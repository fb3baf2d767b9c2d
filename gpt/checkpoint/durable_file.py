"""Write a file, hash it on the way, and return when the disk has it."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from gpt.checkpoint import faults

SLAB_BYTES = 4 << 20
"""Hashed and written at a time: small enough to be hashed and copied from the processor's cache."""


def write_durably(path: Path, chunks: Iterable[bytes | memoryview]) -> str:
    """Write chunks one after the other and fsync; return the sha256 of what was meant to be written.

    The hash is of the bytes in memory, not of a second reading: that would come from the page cache and
    say nothing of the disk, and a byte that changed on the way would be certified. Raises OSError.
    """
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in chunks:
            for start in range(0, len(chunk), SLAB_BYTES):
                slab = chunk[start : start + SLAB_BYTES]
                faults.hit("checkpoint.write", path)
                digest.update(slab)
                file.write(slab)
        faults.hit("checkpoint.after_write", path)
        file.flush()
        os.fsync(file.fileno())
    faults.hit("checkpoint.after_fsync", path)
    return digest.hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
