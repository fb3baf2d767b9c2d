"""documents.jsonl -> shards: one part of the file is one unit of work and, for each split, one shard.

A part's shards depend on its bytes and the tokenizer alone, so the result is the same for any number of
processes and machines. `part-<ordinal>.json`, written last, says that a part is done: after a kill only the
parts without one are encoded again, and one that is there is verified before it counts. The folder in which
all this happens is the caller's to keep and to delete. Not a tokenizer, and not the fan-out (gpt/workers).
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt.config import fingerprint
from gpt.corpus.documents import Document, DocumentPart, cut_parts, read_part
from gpt.corpus.split import SPLITS
from gpt.dataset.shard_file import ShardHeader, ShardWriter, open_shard, shard_name
from gpt.dataset.shard_set import write_shard_set
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.tokenizer.vocab_file import load_tokenizer
from gpt.workers.config import WorkersConfig
from gpt.workers.map_parts import map_parts


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeTask:
    """What a worker needs for one part; all paths must mean the same to every worker."""

    part: DocumentPart
    ordinal: int
    tokenizer: Path
    tokenizer_fingerprint: str
    folder: Path
    run: str
    """See ShardHeader.run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPart:
    """A finished part."""

    headers: tuple[ShardHeader, ...]
    """One for each split that the part has documents of."""
    n_bytes: int
    """UTF-8 bytes of the texts."""
    was_done: bool
    """Found finished and intact: nothing was encoded."""


def encode_parts(
    files: Path, tokenizer: Path, folder: Path, *, part_bytes: int, workers: WorkersConfig
) -> Iterator[EncodedPart]:
    """Encode a fetch folder's documents in parts to `folder`; yield the parts in the documents' order.

    Raises ValueError that names the document which the tokenizer cannot encode, the broken line, and what
    a worker cannot see.
    """
    yield from map_parts(encode_part, cut_tasks(files, tokenizer, folder, part_bytes), workers)


def cut_tasks(files: Path, tokenizer: Path, folder: Path, part_bytes: int) -> list[EncodeTask]:
    """Return the tasks of an encoding and make the folder for its parts."""
    folder.mkdir(parents=True, exist_ok=True)
    known = load_tokenizer(tokenizer).fingerprint
    with (files / "documents.jsonl").open("rb") as documents:
        digest = hashlib.file_digest(documents, "sha256").hexdigest()
    return [
        EncodeTask(
            part=part,
            ordinal=ordinal,
            tokenizer=tokenizer.absolute(),
            tokenizer_fingerprint=known,
            folder=folder.absolute(),
            run=fingerprint(digest, known, part_bytes),
        )
        for ordinal, part in enumerate(cut_parts(files.absolute(), part_bytes))
    ]


def encode_part(task: EncodeTask) -> EncodedPart:
    """Write the shards of one part, or find that they are written and intact."""
    if not task.folder.is_dir():
        raise ValueError(
            f"{task.folder}: no such folder on {os.uname().nodename}; every worker needs the project's "
            "folder at the same path: share it, or set workers.engine to local"
        )
    done = _finished(task)
    if done is not None:
        return done
    tokenizer = _tokenizer(task.tokenizer, task.tokenizer_fingerprint)
    n_bytes = 0
    with contextlib.ExitStack() as stack:
        writers: dict[str, ShardWriter] = {}
        for document in read_part(task.part):
            split = document["split"]
            if split not in writers:
                writers[split] = stack.enter_context(_open_writer(task, document, tokenizer))
            writers[split].add(_encode(tokenizer, document, task.part.path))
            n_bytes += len(document["text"].encode())
        headers = tuple(writers[split].finish() for split in sorted(writers))
    marker = {"run": task.run, "n_bytes": n_bytes, "headers": [header.pack().hex() for header in headers]}
    temporary = task.folder / f".{uuid.uuid4().hex}.tmp"
    temporary.write_text(json.dumps(marker), encoding="utf-8")
    os.replace(temporary, _marker(task))
    return EncodedPart(headers=headers, n_bytes=n_bytes, was_done=False)


def assemble(parts: Sequence[EncodedPart], folder: Path, out: Path) -> None:
    """Make `out` the shard folder of finished parts that lie in `folder`; those stay, for a later attempt.

    Raises ValueError when a split has no document.
    """
    headers = sorted((h for part in parts for h in part.headers), key=lambda h: (h.split, h.ordinal))
    for split in SPLITS:
        if not any(header.split == split for header in headers):
            raise ValueError(f"no document in split {split!r}; change fetch.val_fraction or add text")
    out.mkdir()
    for header in headers:
        name = Path(shard_name(header.split, header.ordinal))
        for file in (name, name.with_suffix(".idx")):
            try:
                os.link(folder / file, out / file)
            except OSError:  # another disk, or one without hard links: the same bytes, once more
                shutil.copyfile(folder / file, out / file)
    write_shard_set(out, headers)


def _finished(task: EncodeTask) -> EncodedPart | None:
    """Return a part that an earlier attempt finished, every byte verified; say why when it is not taken."""
    path = _marker(task)
    if not path.exists():
        return None
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
        if marker["run"] != task.run:
            raise ValueError(f"{path}: of another run")
        shards = [open_shard(task.folder / shard_name(s, task.ordinal)) for s in SPLITS if _has(task, s)]
        if [shard.header.pack().hex() for shard in shards] != marker["headers"]:
            raise ValueError(f"{path}: does not describe the shards beside it")
        n_bytes = int(marker["n_bytes"])
    except (ValueError, KeyError, TypeError) as error:
        print(f"part {task.ordinal} is encoded again: {error}", file=sys.stderr, flush=True)
        return None
    headers = tuple(shard.header for shard in shards)
    return EncodedPart(headers=headers, n_bytes=n_bytes, was_done=True)


def _has(task: EncodeTask, split: str) -> bool:
    return (task.folder / shard_name(split, task.ordinal)).exists()


def _marker(task: EncodeTask) -> Path:
    return task.folder / f"part-{task.ordinal:05d}.json"


@functools.lru_cache(maxsize=1)  # a process encodes many parts with one tokenizer
def _tokenizer(folder: Path, expected: str) -> Tokenizer:
    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != expected:
        raise ValueError(
            f"{folder}: tokenizer {tokenizer.fingerprint} on {os.uname().nodename}, {expected} is expected; "
            "every worker needs the same folder"
        )
    return tokenizer


def _open_writer(task: EncodeTask, document: Document, tokenizer: Tokenizer) -> ShardWriter:
    split = document["split"]
    if split not in SPLITS:
        raise ValueError(
            f"{task.part.path}: document {document['id']!r}: split {split!r}; "
            f"{' and '.join(SPLITS)} are known; run `dvc repro -f fetch`"
        )
    return ShardWriter(
        task.folder,
        split=split,
        ordinal=task.ordinal,
        n_vocab=tokenizer.n_vocab,
        end_of_text=tokenizer.end_of_text,
        tokenizer_fingerprint=task.tokenizer_fingerprint,
        run=task.run,
    )


def _encode(tokenizer: Tokenizer, document: Document, path: Path) -> np.ndarray:
    try:
        return tokenizer.encode_array(document["text"])
    except ValueError as error:
        raise ValueError(f"{path}: document {document['id']!r}: {error}") from None
