"""What a stage leaves on disk: JSON, moved into place whole, and the hash of what made it."""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

HOUSE = ("gpt", "stages")
FRAME = ("stages.runner", "stages.ranks", "stages.tracking", "stages.tracking_journal", "stages.outputs")


def write_json(path: Path, value: Any) -> None:
    """Write JSON that diffs well: sorted keys, two spaces, closing newline."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def install_outputs(temporary: Path, out: Path) -> None:
    """Move every entry of `temporary` into `out`, replacing what stands there."""
    out.mkdir(parents=True, exist_ok=True)
    for entry in sorted(temporary.iterdir()):
        target = out / entry.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(entry, target)


def tree_hash(path: Path) -> str:
    """Hash a file, or every file of a folder with its relative name, by content."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    for file in files:
        digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def house_modules() -> dict[str, Path]:
    """Return the house's modules that this process has imported, frame left out, and their files."""
    found = {}
    for name, module in sys.modules.items():
        file = getattr(module, "__file__", None)
        if name.split(".")[0] in HOUSE and name not in FRAME and file:
            found[name] = Path(file)
    return found


def code_hash(modules: dict[str, Path]) -> str:
    """Hash the files of modules: the code that makes the result."""
    digest = hashlib.sha256()
    for name, file in sorted(modules.items()):
        digest.update(name.encode() + file.read_bytes())
    return digest.hexdigest()
