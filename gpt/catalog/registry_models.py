"""The models among the data registry's sets: those whose file is a GGUF. Fetched once, on first use."""

import sys
from pathlib import Path

from gpt.corpus.registry import CACHE_DIR, describe, fetch, names


def registry_models() -> list[str]:
    """Return the names of the registry's models."""
    return [name for name in names() if describe(name).file.endswith(".gguf")]


def fetch_model(name: str) -> Path:
    """Return the verified file of a registry model; says what it costs before it downloads.

    Raises SourceUnavailable when no source works.
    """
    entry = describe(name)
    if not (CACHE_DIR / entry.sha256[:16] / entry.file).is_file():
        size = f"{entry.size / 1e6:.0f} MB"
        print(f"{name}: fetching {size} into {CACHE_DIR}, this once ({entry.licence})", file=sys.stderr)
    return fetch(name)


def registry_name(sha256: str) -> str | None:
    """Return the registry's name of a model by its file's hash, or None."""
    return next((name for name in registry_models() if describe(name).sha256 == sha256), None)
