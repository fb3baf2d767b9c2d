"""The corpus by one dial: a registry set, a URL or a path; and the extra sets that later stages use."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt.corpus import registry
from gpt.corpus.text_files import read_documents
from gpt.corpus.url_source import fetch_url, is_url


def open_source(name: str, *, text_field: str) -> tuple[Iterator[tuple[str, str]], dict[str, Any]]:
    """Return the (id, text) pairs of a set, a URL or a path, and the facts about it.

    A set's name comes first; a path of the same name is written `./name`. Raises ValueError when
    it is none of them, SourceUnavailable when a set or a URL cannot be had.
    """
    if is_url(name):
        path, url_facts = fetch_url(name)
        return read_documents(path, text_field=text_field), {**url_facts, "licence": "the user's own"}
    if name not in registry.names() and (Path(name).exists() or "/" in name):
        facts = {"path": name, "licence": "the user's own"}
        return read_documents(Path(name), text_field=text_field), facts
    try:
        entry = registry.describe(name)
    except ValueError as error:
        raise ValueError(f"fetch.source: {error}; and there is no file or folder '{name}'") from None
    path = registry.fetch(name)
    documents = read_documents(path, text_field=text_field, members=entry.members)
    return documents, {"set": name, **_facts(entry)}


def copy_extra(name: str, folder: Path) -> dict[str, Any]:
    """Copy an optional set to `folder/<name>/`, or say why it is absent; return the facts."""
    entry = registry.describe(name)
    try:
        path = registry.fetch(name)
    except registry.SourceUnavailable as error:
        reason = "; ".join(f"{label}: {text}" for label, text in error.tried)
        return {"found": False, "reason": reason, **_facts(entry)}
    (folder / name).mkdir(parents=True)
    shutil.copyfile(path, folder / name / entry.file)
    return {"found": True, "file": f"{name}/{entry.file}", **_facts(entry)}


def _facts(entry: registry.Entry) -> dict[str, Any]:
    return {"sha256": entry.sha256, "licence": entry.licence, "description": entry.description}
