"""The data registry: named sets, each with its sha256, size, licence and several sources.

`fetch("shakespeare")` gives the path of a verified file. The cache is keyed by sha256 and is checked
again at every use; a download that broke off goes on where it stopped. The entries stand in every
`registry*.yaml` beside this file. Not a catalogue of models: that is gpt/catalog.
"""

import difflib
import hashlib
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from gpt.config import from_mapping
from gpt.corpus.sources import MIRROR_VARIABLE, Source, obtain

CACHE_DIR = Path("data/.cache")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One set of the registry."""

    file: str
    """Name of the file in the cache."""
    sha256: str
    size: int
    """Bytes."""
    licence: str
    description: str
    sources: tuple[Source, ...]
    """Tried in this order."""
    members: str | None = None
    """For an archive: the members that are the set's documents (`*` allowed)."""

    def __post_init__(self) -> None:
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(f"sha256: 64 lower-case hex digits are needed, got '{self.sha256}'")
        if self.size < 1:
            raise ValueError(f"size: at least 1 byte is needed, got {self.size}")
        if not self.file or "/" in self.file or "\\" in self.file or self.file.startswith("."):
            raise ValueError(f"file: a plain file name is needed, got '{self.file}'")
        if not self.licence or not self.description:
            raise ValueError("licence: licence and description must say something")
        if not self.sources:
            raise ValueError("sources: at least one is needed")


class SourceUnavailable(ValueError):
    """No source of a set could be used; the message says what was tried and what to type."""

    def __init__(self, name: str, tried: list[tuple[str, str]], *, is_passing: bool) -> None:
        kinds = {label.split(" ")[0] for label, _ in tried}
        remedies = ["check the network and run it again"] if kinds - {"mirror"} else []
        if "mirror" in kinds:
            remedies.append(f"set {MIRROR_VARIABLE} to a folder or URL that holds the file")
        remedy = ", or ".join(remedies)
        lines = "".join(f"\n  {label}: {reason}" for label, reason in tried)
        super().__init__(f"data set '{name}' could not be fetched:{lines}\n  {remedy}")
        self.is_passing = is_passing
        """The network was at fault: the same command may succeed later."""
        self.tried = tried


@cache
def _entries(folder: Path) -> dict[str, Entry]:
    """Read and check every registry*.yaml of a folder."""
    entries: dict[str, Entry] = {}
    for path in sorted(folder.glob("registry*.yaml")):
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"{path.name}: a mapping of set names is expected")
        for name, node in content.items():
            if name in entries:
                raise ValueError(f"{path.name}: {name}: this name stands in another registry file")
            entries[name] = from_mapping(Entry, node, f"{path.name}: {name}")
    return entries


def names(*, folder: Path = Path(__file__).parent) -> list[str]:
    """List the sets of the registry."""
    return sorted(_entries(folder))


def describe(name: str, *, folder: Path = Path(__file__).parent) -> Entry:
    """Return what the registry says of a set. Raises ValueError for an unknown name."""
    entries = _entries(folder)
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known sets: {', '.join(sorted(entries))}"
        raise ValueError(f"'{name}' is not a set of the data registry; {hint}")
    return entries[name]


def fetch(name: str, *, cache_dir: Path = CACHE_DIR, folder: Path = Path(__file__).parent) -> Path:
    """Return the path of a set's verified file, from the cache or from the first source that works.

    Raises SourceUnavailable when no source works, ValueError for an unknown name.
    """
    entry = describe(name, folder=folder)
    target = cache_dir / entry.sha256[:16] / entry.file
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cache_dir / f"{entry.sha256[:16]}.lock"):  # two stages may want the same set
        if target.exists():
            fault = _fault(target, entry)
            if fault is None:
                return target
            _say(f"{target}: {fault}; removed, fetching it again")
            target.unlink()
        tried: list[tuple[str, str]] = []
        is_passing = False
        for source in entry.sources:
            try:
                _obtain_verified(source, entry, target)
            except (OSError, ValueError) as error:
                tried.append((source.label, str(error)))
                is_passing |= isinstance(error, ConnectionError | TimeoutError)
            else:
                _say(f"{name}: {entry.size:,} bytes from {source.label}, sha256 as registered")
                return target
    raise SourceUnavailable(name, tried, is_passing=is_passing)


def try_fetch(name: str, *, cache_dir: Path = CACHE_DIR) -> Path | None:
    """Return the path of a set's verified file, or None when no source works."""
    try:
        return fetch(name, cache_dir=cache_dir)
    except SourceUnavailable:
        return None


def _obtain_verified(source: Source, entry: Entry, target: Path) -> None:
    """Install the source's file at `target` if it is the registered one."""
    part = target.with_name(f"{target.name}.part")
    if source.url is None and not _is_remote_mirror(source):
        part.unlink(missing_ok=True)  # only a download over HTTP can go on with it
    is_resumed = part.exists()
    obtain(source, sha256=entry.sha256, size=entry.size, part=part)
    fault = _fault(part, entry)
    if fault is not None and is_resumed:  # the start may be of another file, or Range unknown there
        part.unlink()
        obtain(source, sha256=entry.sha256, size=entry.size, part=part)
        fault = _fault(part, entry)
    if fault is not None:
        part.unlink()
        raise ValueError(f"refused: {fault}")
    os.replace(part, target)


def _is_remote_mirror(source: Source) -> bool:
    return source.mirror is not None and os.environ.get(MIRROR_VARIABLE, "").startswith("http")


def _fault(path: Path, entry: Entry) -> str | None:
    """Say how a file differs from its entry, or None."""
    size = path.stat().st_size
    if size != entry.size:
        return f"it has {size:,} bytes, {entry.size:,} are registered"
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if digest != entry.sha256:
        return f"its sha256 is {digest[:16]}..., {entry.sha256[:16]}... is registered"
    return None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
