"""A folder of shards as one stream of tokens a split, verified before the first token is used.

`shards.json`, written last, lists every file with its size and hashes; each file's header says again which
place it has, in which run, by which tokenizer. So a flipped byte, a cut file, a swapped, missing or surplus
shard and an intact one of another run are all refused, by the file's name. Not a shuffler: loader.py.
"""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from gpt.dataset.shard_file import REMAKE, ShardHeader, TokenShard, open_shard, read_header, shard_name

FORMAT = "rawgpt-shards-1"
SET_FILE = "shards.json"
HASHING_THREADS = 4
"""Files hashed at once (hashlib lets go of the interpreter); more only wait for the disk."""


class TokenStream:
    """The tokens of shards one after the other; a slice inside one shard is a view of its memory map."""

    def __init__(self, shards: Sequence[TokenShard]) -> None:
        assert shards, "a stream of no shards"
        self.shards = tuple(shards)
        self.dtype: np.dtype = self.shards[0].tokens.dtype
        self._ends = list(accumulate(len(shard.tokens) for shard in self.shards))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, place: slice) -> np.ndarray:
        """Return tokens (n,) as numpy's slicing would; a copy where the slice crosses a border."""
        start, stop, step = place.indices(len(self))
        if step < 0:
            raise ValueError(
                f"a step of {step} over a token stream: slice forwards and turn the result round"
            )
        pieces = []
        while start < stop:
            k = bisect_right(self._ends, start)
            before = self._ends[k] - len(self.shards[k].tokens)
            pieces.append(self.shards[k].tokens[start - before : min(stop, self._ends[k]) - before])
            start = self._ends[k]
        if not pieces:
            return np.empty(0, dtype=self.dtype)
        return (pieces[0] if len(pieces) == 1 else np.concatenate(pieces))[::step]

    @cached_property
    def document_starts(self) -> np.ndarray:
        """Where each document starts, int64 (n_documents,), counted from the stream's first token."""
        firsts = [end - len(shard.tokens) for end, shard in zip(self._ends, self.shards, strict=True)]
        starts = [s.document_starts + first for s, first in zip(self.shards, firsts, strict=True)]
        return np.concatenate(starts)


def write_shard_set(folder: Path, headers: Sequence[ShardHeader]) -> None:
    """Write shards.json for the shards that lie in `folder`; `headers` in the order of the stream."""
    (folder / SET_FILE).write_text(_listing(headers), encoding="utf-8")


def open_shards(folder: Path, split: str, fingerprint: str | None) -> TokenStream:
    """Open and verify one split of a shard folder; the whole folder must hold what shards.json lists.

    `fingerprint` is the tokenizer's that the caller goes on with; None: any. Raises ValueError that names
    the file at fault.
    """
    set_path = folder / SET_FILE
    headers = _read_set(set_path)
    entries = json.loads(set_path.read_text(encoding="utf-8"))["splits"]
    tokenizer = headers[0].tokenizer_fingerprint
    if fingerprint is not None and tokenizer != fingerprint:
        path = folder / shard_name(headers[0].split, headers[0].ordinal)
        raise ValueError(f"{path}: made with tokenizer {tokenizer}, not {fingerprint}; run `dvc repro shard`")
    if split not in entries:
        raise ValueError(f"{set_path}: no split {split!r}; it lists {', '.join(sorted(entries))}")
    wanted = [header for header in headers if header.split == split]
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        return TokenStream(list(pool.map(partial(_open_listed, folder), wanted)))


def _listing(headers: Sequence[ShardHeader]) -> str:
    """Return the text of shards.json: one text for one set of headers."""
    splits: dict[str, list[dict[str, Any]]] = {}
    for header in headers:
        splits.setdefault(header.split, []).append(
            {
                "file": shard_name(header.split, header.ordinal),
                "n_tokens": header.n_tokens,
                "n_documents": header.n_documents,
                "sha256": header.tokens_sha256.hex(),
                "index_sha256": header.index_sha256.hex(),
            }
        )
    content = {
        "format": FORMAT,
        "run": headers[0].run,
        "tokenizer_fingerprint": headers[0].tokenizer_fingerprint,
        "n_vocab": headers[0].n_vocab,
        "end_of_text": headers[0].end_of_text,
        "splits": splits,
    }
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _read_set(path: Path) -> list[ShardHeader]:
    """Return the headers of a whole folder, which must be the listed ones and no others."""
    if not path.is_file():
        raise ValueError(f"{path}: no such list of shards; run `dvc repro shard` first")
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        content: Any = json.loads(text)
        listed = {split: [entry["file"] for entry in entries] for split, entries in content["splits"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged ({error!r}); {REMAKE}") from None
    _check_files(path.parent, listed)
    headers = []
    for split, names in listed.items():
        ordinals = []
        for name in names:
            header = read_header(path.parent / name)
            _check_place(path.parent / name, header, split, content)
            ordinals.append(header.ordinal)
            headers.append(header)
        if ordinals != sorted(set(ordinals)):
            raise ValueError(f"{path}: the shards of {split} do not stand in their order; {REMAKE}")
    if not headers or text != _listing(headers):
        raise ValueError(f"{path}: {_difference(content, headers)}; {REMAKE}")
    return headers


def _check_files(folder: Path, listed: Mapping[str, Sequence[Any]]) -> None:
    """Refuse a shard that is missing and a file that is not listed."""
    shards = {str(name) for names in listed.values() for name in names}
    expected = {SET_FILE} | shards | {str(Path(name).with_suffix(".idx")) for name in shards}
    found = {file.name for file in folder.iterdir()}
    for name in sorted(expected - found):
        raise ValueError(f"{folder / name}: missing, though {SET_FILE} lists it; {REMAKE}")
    for name in sorted(found - expected):
        raise ValueError(f"{folder / name}: not listed in {SET_FILE}; remove it, or {REMAKE}")


def _check_place(path: Path, header: ShardHeader, split: str, content: Mapping[str, Any]) -> None:
    """Refuse an intact shard that belongs somewhere else."""
    own_name = shard_name(header.split, header.ordinal)
    if path.name != own_name or header.split != split:
        raise ValueError(f"{path}: holds {own_name} of split {header.split}; {REMAKE}")
    for key in ("tokenizer_fingerprint", "run", "n_vocab", "end_of_text"):
        if getattr(header, key) != content.get(key):
            raise ValueError(
                f"{path}: of another encoding: its {key} is {getattr(header, key)}, "
                f"{SET_FILE} says {content.get(key)}; {REMAKE}"
            )


def _difference(content: Mapping[str, Any], headers: Sequence[ShardHeader]) -> str:
    """Say which listed shard is not the one that lies there."""
    true = json.loads(_listing(headers))["splits"] if headers else {}
    for split, entries in true.items():
        for listed, lies in zip(content["splits"][split], entries, strict=True):
            if listed != lies:
                return f"does not describe {lies['file']} as it is"
    return "damaged"


def _open_listed(folder: Path, header: ShardHeader) -> TokenShard:
    return open_shard(folder / shard_name(header.split, header.ordinal))
