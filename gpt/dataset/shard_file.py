"""One shard on disk: `<split>-<ordinal>.bin` holds token ids, `.idx` beside it where each document starts.

The little-endian header says everything that a reader must not guess: see `ShardHeader`. End-of-text closes
every document. A shard is complete or absent: both files appear by a rename, the tokens last. Not here: which
shards make a corpus (shard_set.py), and who writes them (encode_corpus.py).
"""

import contextlib
import hashlib
import os
import struct
import uuid
from array import array
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

MAGIC = b"RAWGPT\0\2"
FIELDS = struct.Struct("<8sIIIIQQ8s16s16s32s32s")
HEADER_BYTES = 192
REMAKE = "run `dvc repro -f shard`"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardHeader:
    """What the first bytes of a shard say, in the order in which they stand, behind the magic."""

    width: int
    """Bytes per token: 2 where every id of the vocabulary fits, else 4."""
    ordinal: int
    """Place among the split's parts, from 0; a part without a document of the split leaves a gap."""
    n_vocab: int
    end_of_text: int
    n_tokens: int
    n_documents: int
    split: str
    tokenizer_fingerprint: str
    run: str
    """Fingerprint of what the shards of one encoding share: documents, tokenizer, size of a part."""
    tokens_sha256: bytes
    index_sha256: bytes

    def pack(self) -> bytes:
        """Return the header's bytes, filled up with zeros."""
        numbers = (self.width, self.ordinal, self.n_vocab, self.end_of_text, self.n_tokens, self.n_documents)
        names = (self.split.encode(), self.tokenizer_fingerprint.encode(), self.run.encode())
        packed = FIELDS.pack(MAGIC, *numbers, *names, self.tokens_sha256, self.index_sha256)
        return packed.ljust(HEADER_BYTES, b"\0")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenShard:
    """An opened shard; tokens and index stay on disk."""

    path: Path
    header: ShardHeader
    tokens: np.ndarray
    """A plain array over a memory map (slices of np.memmap cost more), uint16 or uint32, (n_tokens,)."""
    document_starts: np.ndarray
    """The same, int64 (n_documents,), counted from the shard's first token."""


def shard_name(split: str, ordinal: int) -> str:
    """Return the file name of a shard's tokens."""
    return f"{split}-{ordinal:05d}.bin"


def token_dtype(n_vocab: int) -> np.dtype:
    """Return the narrower of uint16 and uint32 that holds every id."""
    return np.dtype("<u2" if n_vocab <= 2**16 else "<u4")


class ShardWriter:
    """Writes one shard, document by document, hashing on the way; a failure leaves no shard behind."""

    def __init__(
        self,
        folder: Path,
        *,
        split: str,
        ordinal: int,
        n_vocab: int,
        end_of_text: int,
        tokenizer_fingerprint: str,
        run: str,
    ) -> None:
        self.path = folder / shard_name(split, ordinal)
        self.dtype = token_dtype(n_vocab)
        self._facts = {
            "split": split,
            "ordinal": ordinal,
            "n_vocab": n_vocab,
            "end_of_text": end_of_text,
            "tokenizer_fingerprint": tokenizer_fingerprint,
            "run": run,
        }
        self._end = np.asarray([end_of_text], dtype=self.dtype).tobytes()
        self._starts = array("q")
        self._count = 0
        self._digest = hashlib.sha256()
        # two machines may write the same part (an engine that gave one up too early): no name in common
        self._temporary = folder / f".{self.path.name}.{uuid.uuid4().hex}.tmp"
        self._file: IO[bytes] = self._temporary.open("wb")
        self._file.write(bytes(HEADER_BYTES))

    def add(self, ids: np.ndarray) -> None:
        """Append a document, ids (n,) without end-of-text."""
        self._starts.append(self._count)
        piece = ids.astype(self.dtype, copy=False).tobytes() + self._end
        self._count += len(ids) + 1
        self._digest.update(piece)
        self._file.write(piece)

    def finish(self) -> ShardHeader:
        """Put both files in their place; return the header."""
        index = np.asarray(self._starts, dtype="<i8").tobytes()
        header = ShardHeader(
            width=self.dtype.itemsize,
            n_tokens=self._count,
            n_documents=len(self._starts),
            tokens_sha256=self._digest.digest(),
            index_sha256=hashlib.sha256(index).digest(),
            **self._facts,  # type: ignore[arg-type]
        )
        index_temporary = self._temporary.with_suffix(".idx")
        try:
            with index_temporary.open("wb") as file:
                file.write(index)
                file.flush()
                os.fsync(file.fileno())
            self._file.seek(0)
            self._file.write(header.pack())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(index_temporary, self.path.with_suffix(".idx"))
            os.replace(self._temporary, self.path)
        finally:
            index_temporary.unlink(missing_ok=True)
        return header

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what `finish` did not put in place."""
        with contextlib.suppress(OSError):  # closing writes what is buffered: a full disk said so already
            self._file.close()
        self._temporary.unlink(missing_ok=True)


def read_header(path: Path) -> ShardHeader:
    """Read a shard's header; raises ValueError that names the file when it is not one."""
    if not path.is_file():
        raise ValueError(f"{path}: no such shard; run `dvc repro shard` first")
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES or not head.startswith(MAGIC):
        raise ValueError(f"{path}: not a rawgpt shard; {REMAKE}")
    _, width, ordinal, n_vocab, end, count, n_documents, split, tokenizer, run, sha, index_sha = (
        FIELDS.unpack(head[: FIELDS.size])
    )
    try:
        header = ShardHeader(
            width=width,
            ordinal=ordinal,
            n_vocab=n_vocab,
            end_of_text=end,
            n_tokens=count,
            n_documents=n_documents,
            split=split.rstrip(b"\0").decode("ascii"),
            tokenizer_fingerprint=tokenizer.decode("ascii"),
            run=run.decode("ascii"),
            tokens_sha256=sha,
            index_sha256=index_sha,
        )
    except UnicodeDecodeError:
        raise ValueError(f"{path}: damaged header; {REMAKE}") from None
    if header.pack() != head or width != token_dtype(n_vocab).itemsize:
        raise ValueError(f"{path}: damaged header; {REMAKE}")
    return header


def open_shard(path: Path) -> TokenShard:
    """Open a shard and hash both files; raises ValueError that names the file."""
    header = read_header(path)
    index_path = path.with_suffix(".idx")
    if not index_path.is_file():
        raise ValueError(f"{index_path}: no such index; {REMAKE}")
    if path.stat().st_size != HEADER_BYTES + header.n_tokens * header.width:
        raise ValueError(f"{path}: truncated or longer than its header says; {REMAKE}")
    if index_path.stat().st_size != 8 * header.n_documents or not header.n_documents:
        raise ValueError(f"{index_path}: truncated or of another shard; {REMAKE}")
    dtype = f"<u{header.width}"
    tokens = np.memmap(path, dtype=dtype, mode="r", offset=HEADER_BYTES, shape=(header.n_tokens,))
    if hashlib.sha256(tokens.data).digest() != header.tokens_sha256:
        raise ValueError(f"{path}: damaged (sha256 of its tokens); {REMAKE}")
    starts = np.memmap(index_path, dtype="<i8", mode="r")
    if hashlib.sha256(starts.data).digest() != header.index_sha256:
        raise ValueError(f"{index_path}: damaged or of another shard; {REMAKE}")
    return TokenShard(
        path=path, header=header, tokens=tokens.view(np.ndarray), document_starts=starts.view(np.ndarray)
    )
