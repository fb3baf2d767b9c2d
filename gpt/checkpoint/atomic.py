"""A folder appears whole or not at all: temporary folder -> fsync -> manifest -> rename.

Two more names stand beside `name` for a moment: `.name.tmp`, the folder being written, and `.name.old`,
what stood there before. Between the two renames of a replacement neither is at `name`: a kill there is
undone by `recover`, which every opening and the next save call.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt.checkpoint import faults
from gpt.checkpoint.durable_file import fsync_folder
from gpt.checkpoint.manifest import old_name, recover, write_manifest


@contextmanager
def atomic_folder(target: Path, hashes: dict[str, str] | None = None) -> Iterator[Path]:
    """Yield a temporary folder; on success its manifest is written and it becomes `target`.

    `hashes` may hold the sha256 of files that were hashed while they were written. On failure the
    temporary folder is removed and what stood at `target` is left as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    recover(target)
    temporary = target.parent / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)  # left over from a killed process
    temporary.mkdir()
    try:
        yield temporary
        write_manifest(temporary, hashes)
        fsync_folder(temporary)
        faults.hit("checkpoint.after_manifest", temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if target.exists():
        os.replace(target, old_name(target))
        faults.hit("checkpoint.after_aside", target)
    os.replace(temporary, target)
    fsync_folder(target.parent)
    faults.hit("checkpoint.after_rename", target)
    shutil.rmtree(old_name(target), ignore_errors=True)
