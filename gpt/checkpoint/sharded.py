"""A resume state whose tensors are divided among ranks: which file holds which elements, and reading any run.

Every rank's part of a tensor is a run of elements of the flattened whole, whatever the engine. `index.json`
lists the runs; a reader with other runs (another number of ranks, another engine, one process) takes what
overlaps with its own. A state that one process wrote is read alike: its tensors are runs from 0 to the end.
Why not torch's own files: docs/decisions/sharded_checkpoints.md.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt.checkpoint.safetensors import DTYPES, NAMES, SafetensorsFile

INDEX = "index.json"
FORMAT = "rawgpt-sharded-1"
PARTS = ("model", "optimizer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Elements start..stop-1 of a flattened tensor, in a file."""

    file: str
    key: str
    """The tensor's name in the file."""
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One tensor and where its elements lie."""

    dtype: torch.dtype
    shape: torch.Size
    runs: tuple[Run, ...]


class ShardedFolder:
    """The tensors of one state, whoever wrote it. Damage is the manifest's to find, before this."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries = read_index(folder) if (folder / INDEX).exists() else _whole_entries(folder)
        """By `<part>/<name>`, part one of PARTS."""
        self._files: dict[str, SafetensorsFile] = {}

    def names(self, part: str) -> list[str]:
        """Return the tensors of a part."""
        return [name.removeprefix(f"{part}/") for name in self.entries if name.startswith(f"{part}/")]

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """Return elements start..stop-1 of a flattened tensor. Raises ValueError when some are in no file."""
        entry = self.entries[name]
        out = torch.empty(stop - start, dtype=entry.dtype)
        n_read = 0
        for run in entry.runs:
            first, last = max(start, run.start), min(stop, run.stop)
            if first < last:
                file = self._open(run.file)
                out[first - start : last - start] = file.read(run.key, first - run.start, last - run.start)
                n_read += last - first
        if n_read != stop - start:
            raise ValueError(
                f"{self.folder / INDEX}: {n_read} of {stop - start} elements of {name} are there"
            )
        return out

    def read_whole(self, name: str) -> Tensor:
        """Return a tensor in its shape."""
        shape = self.entries[name].shape
        return self.read(name, 0, shape.numel()).view(shape)

    def _open(self, name: str) -> SafetensorsFile:
        if name not in self._files:
            self._files[name] = SafetensorsFile(self.folder / name)
        return self._files[name]


def write_index(entries: dict[str, Entry]) -> bytes:
    """Return index.json's bytes; the same entries give the same."""
    tensors = {
        name: {
            "dtype": NAMES[entry.dtype],
            "shape": list(entry.shape),
            "runs": [[run.file, run.key, run.start, run.stop] for run in sorted(entry.runs, key=_start)],
        }
        for name, entry in sorted(entries.items())
    }
    return (json.dumps({"format": FORMAT, "tensors": tensors}, separators=(",", ":")) + "\n").encode()


def read_index(folder: Path) -> dict[str, Entry]:
    """Read index.json. Raises ValueError that names it when it is damaged or of another format."""
    path = folder / INDEX
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']!r}, {FORMAT!r} is expected")
        entries = {name: _entry(value) for name, value in found["tensors"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    for name, entry in entries.items():
        _check_runs(path, name, entry)
    return entries


def _entry(value: dict[str, Any]) -> Entry:
    runs = tuple(Run(file=f, key=key, start=start, stop=stop) for f, key, start, stop in value["runs"])
    return Entry(dtype=DTYPES[value["dtype"]], shape=torch.Size(value["shape"]), runs=runs)


def _check_runs(path: Path, name: str, entry: Entry) -> None:
    """Refuse runs that leave a gap, overlap, or name a file elsewhere."""
    end = 0
    for run in entry.runs:
        if run.start != end or run.stop <= run.start or Path(run.file).name != run.file:
            raise ValueError(f"{path}: damaged ({name}: elements {run.start}..{run.stop} of {run.file!r})")
        end = run.stop
    if end != entry.shape.numel():
        raise ValueError(f"{path}: damaged ({name}: {end} of {entry.shape.numel()} elements)")


def _whole_entries(folder: Path) -> dict[str, Entry]:
    """Return the entries of a state that one process wrote."""
    entries = {}
    for part in PARTS:
        file = SafetensorsFile(folder / f"{part}.safetensors")
        for name, (dtype, shape, _) in file.entries.items():
            n = shape.numel()
            runs = (Run(file=f"{part}.safetensors", key=name, start=0, stop=n),) if n else ()
            entries[f"{part}/{name}"] = Entry(dtype=dtype, shape=shape, runs=runs)
    return entries


def _start(run: Run) -> int:
    return run.start


def total_bytes(entries: Iterable[Entry]) -> int:
    """Return the bytes of whole tensors."""
    return sum(entry.shape.numel() * entry.dtype.itemsize for entry in entries)
