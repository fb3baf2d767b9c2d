"""A corpus by URL: one file into the data cache, going on where an earlier download broke off.

A URL names a place, not a content: what came is recorded by its sha256, and the cached file is checked
against it at every use. It is not asked for again until its folder is removed. Not the registry, whose
sets are known by their sha256 beforehand.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from gpt.corpus.download import TIMEOUT_S, download
from gpt.corpus.registry import CACHE_DIR, SourceUnavailable

SCHEMES = ("https://", "http://", "file://")


def is_url(source: str) -> bool:
    """Tell whether a source is a URL of a kind that is read here."""
    return source.startswith(SCHEMES)


def fetch_url(url: str, *, cache_dir: Path = CACHE_DIR) -> tuple[Path, dict[str, Any]]:
    """Return the path of a URL's file and the facts about it: url, sha256, bytes.

    A file:// URL is read where it lies. Raises SourceUnavailable when the server cannot be had or does
    not say how large the file is, ValueError for a URL without a file name.
    """
    parts = urlsplit(url)
    name = unquote(parts.path).rsplit("/", 1)[-1]
    if not name or name.startswith("."):
        raise ValueError(f"fetch.source: {url} names no file; give the URL of one file")
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        if parts.netloc not in ("", "localhost") or not path.is_file():
            raise ValueError(f"fetch.source: {url}: no such file on this machine")
        return path, _facts(url, path)
    folder = cache_dir / f"url-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    target, record = folder / name, folder / f"{name}.facts.json"
    with FileLock(cache_dir / f"{folder.name}.lock"):
        if target.exists() and record.exists():
            facts = _facts(url, target)
            if facts == json.loads(record.read_text(encoding="utf-8")):
                _say(f"{target}: downloaded before; remove {folder} to download it again")
                return target, facts
            _say(f"{target}: not what was downloaded; fetching it again")
            target.unlink()
        _download(url, target)
        facts = _facts(url, target)
        temporary = folder / f".{name}.facts.tmp"
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, record)
    _say(f"{url}: {facts['bytes']:,} bytes, sha256 {facts['sha256'][:16]}...")
    return target, facts


def _download(url: str, target: Path) -> None:
    """Bring the URL's file to `target`, from the start when the server has another one by now."""
    part, state = (target.with_name(f"{target.name}.{kind}") for kind in ("part", "part.json"))
    try:
        version = _ask(url)
        known = json.loads(state.read_text(encoding="utf-8")) if state.exists() else None
        if known != version:
            part.unlink(missing_ok=True)
            state.write_text(json.dumps(version), encoding="utf-8")
        download(url, part, size=version["bytes"])
        if part.stat().st_size != version["bytes"]:
            size = part.stat().st_size
            part.unlink()
            raise ConnectionError(f"{size:,} bytes came, {version['bytes']:,} were announced")
    except OSError as error:
        passing = isinstance(error, ConnectionError | TimeoutError)
        raise SourceUnavailable(url, [(url, f"{error}"[:200])], is_passing=passing) from None
    os.replace(part, target)
    state.unlink()


def _ask(url: str) -> dict[str, Any]:
    """Ask the server how large the file is and which version of it this is. Raises OSError."""
    import requests

    headers = {"Accept-Encoding": "identity"}  # the size of the file, not of its compression
    try:
        answer = requests.head(url, headers=headers, timeout=TIMEOUT_S, allow_redirects=True)
    except requests.RequestException as error:
        raise ConnectionError(f"{type(error).__name__}: no answer") from None
    if answer.status_code >= 500:
        raise ConnectionError(f"HTTP {answer.status_code}")
    if answer.status_code >= 400:
        raise FileNotFoundError(f"HTTP {answer.status_code}")
    size = answer.headers.get("Content-Length", "")
    if not size.isdigit() or int(size) < 1:
        raise FileNotFoundError("the server does not say how large it is; download it and give its path")
    version = {name: answer.headers.get(name, "") for name in ("ETag", "Last-Modified")}
    return {"bytes": int(size), **version}


def _facts(url: str, path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"url": url, "sha256": digest, "bytes": path.stat().st_size}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
