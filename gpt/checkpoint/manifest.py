"""manifest.json: the sha256 of every file of a folder, written last and checked on open.

A folder without it is unfinished; a file that differs from it is damaged. Both are refused by name.
"""

import hashlib
import json
import os
from pathlib import Path

MANIFEST = "manifest.json"


def file_sha256(path: Path) -> str:
    """Return a file's sha256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path) -> str:
    """Write the manifest of a finished folder; return the manifest's own sha256."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    hashes = {name: file_sha256(folder / name) for name in names if name != MANIFEST}
    path = folder / MANIFEST
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"files": hashes}, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return file_sha256(path)


def check_manifest(folder: Path) -> str:
    """Verify every file against the manifest; return the manifest's sha256, the folder's name.

    Raises ValueError that names what is missing, surplus or damaged.
    """
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
    for name, expected in items:
        if name not in present:
            raise ValueError(f"{folder / name}: missing; make the folder again")
        if file_sha256(folder / name) != expected:
            raise ValueError(f"{folder / name}: damaged (its sha256 is not the manifest's); make it again")
    return file_sha256(path)
