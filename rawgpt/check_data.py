"""The doctor's looks at the data: is every set that params.yaml names here, or can it be had?

A source is asked with one small request, never downloaded.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpt.config import read_params
from gpt.corpus.registry import CACHE_DIR, Entry, describe, names
from gpt.corpus.sources import MIRROR_VARIABLE, Source
from rawgpt.check import Check

ASK_LIMIT_S = 20
PARAMS = Path("params.yaml")


def check_mirror() -> Iterator[Check]:
    """Look at RAWGPT_DATA_MIRROR."""
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    if not mirror:
        yield Check(name="data mirror", status="ok", detail=f"{MIRROR_VARIABLE} is not set (it is optional)")
    elif mirror.startswith("http") or Path(mirror).is_dir():
        yield Check(name="data mirror", status="ok", detail=mirror)
    else:
        remedy = f"unset {MIRROR_VARIABLE}, or name a folder or a URL"
        yield Check(name="data mirror", status="fail", detail=f"{mirror}: no such folder", remedy=remedy)


def check_sets() -> Iterator[Check]:
    """Look for the source and the extras of params.yaml's fetch section, all at once."""
    try:
        section = read_params(PARAMS)["fetch"]
        source, extras = str(section["source"]), [str(name) for name in section["extras"]]
    except (ValueError, KeyError, TypeError) as error:
        remedy = "make profile NAME=laptop"
        yield Check(name="data", status="fail", detail=f"{PARAMS}: fetch: {error}", remedy=remedy)
        return
    with ThreadPoolExecutor() as pool:
        needed = pool.submit(_check_set, source, is_needed=True)
        optional = [pool.submit(_check_set, name, is_needed=False) for name in extras]
        yield needed.result()
        yield from (check.result() for check in optional)


def _check_set(name: str, *, is_needed: bool) -> Check:
    label = f"data {name}"
    if name not in names():
        if is_needed and Path(name).exists():
            return Check(name=label, status="ok", detail="a path of your own")
        remedy = f"correct fetch.source or fetch.extras in {PARAMS}"
        return Check(name=label, status="fail", detail="no set of the registry and no path", remedy=remedy)
    entry = describe(name)
    if (CACHE_DIR / entry.sha256[:16] / entry.file).is_file():
        return Check(name=label, status="ok", detail=f"fetched, {entry.size:,} bytes")
    reasons = []
    for source in entry.sources:
        reason = unreachable(source)
        if reason is None:
            detail = f"{entry.size:,} bytes can be had from {source.label}"
            return Check(name=label, status="ok", detail=detail)
        reasons.append(f"{source.label}: {reason}")
    detail = "; ".join(reasons)
    if is_needed:
        return Check(name=label, status="fail", detail=detail, remedy=_remedy(entry))
    detail = f"optional, and not to be had: {detail}"
    return Check(name=label, status="warn", detail=detail, remedy=_remedy(entry))


def _remedy(entry: Entry) -> str:
    if any(source.mirror for source in entry.sources):
        return f"export {MIRROR_VARIABLE}=<folder or URL that holds {entry.file}>, or check the network"
    return "check the network"


def unreachable(source: Source) -> str | None:
    """Return why a source cannot be had now, or None."""
    if source.package is not None:
        package, _, wanted = source.package.partition("==")
        command = [sys.executable, "-m", "pip", "index", "versions", package]
        return _ask(command, expected=wanted)
    if source.debian is not None:
        package, _, wanted = source.debian.partition("=")
        return _ask(["apt-cache", "madison", package], expected=wanted)
    url = source.url
    if source.mirror is not None:
        mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
        if not mirror:
            return f"{MIRROR_VARIABLE} is not set"
        if not mirror.startswith("http"):
            return None if (Path(mirror) / source.mirror).is_file() else "not there"
        url = f"{mirror}/{source.mirror}"
    assert url is not None
    return _head(url)


def _ask(command: list[str], *, expected: str) -> str | None:
    """Run a package manager's look-up; return None when it lists the expected version."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_LIMIT_S, check=False)
    except FileNotFoundError:
        return f"{command[0]} is not installed"
    except subprocess.TimeoutExpired:
        return f"no answer in {ASK_LIMIT_S} s"
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        return lines[-1] if lines else "not reachable"
    return None if expected in done.stdout else f"version {expected} is not offered"


def _head(url: str) -> str | None:
    """Ask for a URL's headers; return None when it is there."""
    import requests

    try:
        answer = requests.head(url, timeout=ASK_LIMIT_S, allow_redirects=True)
    except requests.RequestException as error:
        return type(error).__name__
    return None if answer.ok else f"HTTP {answer.status_code}"
