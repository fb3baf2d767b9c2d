"""manifest.json: the sha256 of every file of a folder, written last and checked on open.

A folder without it is unfinished; a file that differs from it is damaged. Both are refused by name.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from gpt.checkpoint.durable_file import write_durably

MANIFEST = "manifest.json"


def file_sha256(path: Path) -> str:
    """Return a file's sha256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, hashes: dict[str, str] | None = None) -> str:
    """Write the manifest of a finished folder; return the manifest's own sha256.

    Files that `hashes` names are taken at their word; all others are hashed and flushed to the disk.
    """
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    known = hashes or {}
    entries = {n: known[n] if n in known else _hash_and_flush(folder / n) for n in names if n != MANIFEST}
    text = json.dumps({"files": entries}, indent=2) + "\n"
    return write_durably(folder / MANIFEST, [text.encode()])


def _hash_and_flush(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def old_name(folder: Path) -> Path:
    """Return where a folder waits while its replacement takes its name."""
    return folder.parent / f".{folder.name}.old"


def recover(folder: Path) -> None:
    """Finish or undo a replacement that a kill interrupted; do nothing where there was none."""
    old = old_name(folder)
    if old.exists() and folder.exists():
        shutil.rmtree(old)  # the new one has its name
    elif old.exists():
        os.replace(old, folder)


def check_manifest(folder: Path, share: tuple[int, int] = (0, 1)) -> str:
    """Verify every file against the manifest; return the manifest's sha256, the folder's name.

    With a share (i, n) only every n-th file is read, from the i-th on: ranks divide the work.
    Raises ValueError that names what is missing, surplus or damaged.
    """
    if not folder.exists():
        recover(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder}: no {MANIFEST}, so it is unfinished or no checkpoint; make it again")
    try:
        hashes = json.loads(path.read_text(encoding="utf-8"))["files"]
        items = list(hashes.items())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: damaged; make the folder again") from None
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {MANIFEST}
    if surplus := sorted(present - set(hashes)):
        raise ValueError(f"{folder / surplus[0]}: not in {MANIFEST}; remove it or make the folder again")
    for i, (name, expected) in enumerate(items):
        if name not in present:
            raise ValueError(f"{folder / name}: missing; make the folder again")
        if i % share[1] == share[0] and file_sha256(folder / name) != expected:
            raise ValueError(f"{folder / name}: damaged (its sha256 is not the manifest's); make it again")
    return file_sha256(path)
