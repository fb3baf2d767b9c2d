"""Token ids on disk: `<name>.bin` holds the tokens, `<name>.idx` where each document starts.

The 128-byte little-endian header: magic (8) | version u32 | bytes per token u32 | token count u64 |
document count u64 | tokenizer fingerprint (16 ASCII) | sha256 of the tokens (32) | sha256 of the index (32)
| zeros. End-of-text stands between documents. Any flipped byte is refused on open, by file name.
"""

import hashlib
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAGIC = b"RAWGPT\0\1"
VERSION = 1
HEADER = struct.Struct("<8sIIQQ16s32s32s")
HEADER_BYTES = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenShard:
    """An opened shard; the tokens stay on disk."""

    path: Path
    tokens: np.ndarray
    """Memory map, uint16 or uint32, (n_tokens,)."""
    document_starts: np.ndarray
    """int64, (n_documents,)."""
    tokenizer_fingerprint: str


def write_shard(
    path: Path, documents: Iterable[Sequence[int]], *, n_vocab: int, end_of_text: int, fingerprint: str
) -> int:
    """Write documents, each closed by end-of-text, to `path` and its index; return the token count."""
    dtype = np.dtype("<u2" if n_vocab <= 2**16 else "<u4")
    starts, count, digest = [], 0, hashlib.sha256()
    with path.open("wb") as file:
        file.write(bytes(HEADER_BYTES))
        for document in documents:
            piece = np.asarray([*document, end_of_text], dtype=dtype)
            starts.append(count)
            count += len(piece)
            digest.update(piece.tobytes())
            file.write(piece.tobytes())
        index = np.asarray(starts, dtype="<i8").tobytes()
        path.with_suffix(".idx").write_bytes(index)
        header = HEADER.pack(
            MAGIC,
            VERSION,
            dtype.itemsize,
            count,
            len(starts),
            fingerprint.encode(),
            digest.digest(),
            hashlib.sha256(index).digest(),
        )
        file.seek(0)
        file.write(header)
        file.flush()
        os.fsync(file.fileno())
    return count


def open_shard(path: Path) -> TokenShard:
    """Open and verify a shard; raises ValueError that names the file."""
    index_path = path.with_suffix(".idx")
    for file in (path, index_path):
        if not file.is_file():
            raise ValueError(f"{file}: no such shard; run `dvc repro shard` first")
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES or not head.startswith(MAGIC):
        raise ValueError(f"{path}: not a rawgpt shard; run `dvc repro -f shard`")
    _, version, width, count, n_documents, fingerprint, sha, index_sha = HEADER.unpack(head[: HEADER.size])
    if version != VERSION or width not in (2, 4) or any(head[HEADER.size :]):
        raise ValueError(f"{path}: damaged header; run `dvc repro -f shard`")
    if path.stat().st_size != HEADER_BYTES + count * width:
        raise ValueError(f"{path}: truncated or longer than its header says; run `dvc repro -f shard`")
    tokens = np.memmap(path, dtype=f"<u{width}", mode="r", offset=HEADER_BYTES, shape=(count,))
    if hashlib.sha256(tokens.data).digest() != sha:
        raise ValueError(f"{path}: damaged (sha256 of its tokens); run `dvc repro -f shard`")
    index = index_path.read_bytes()
    if hashlib.sha256(index).digest() != index_sha or len(index) != 8 * n_documents:
        raise ValueError(f"{index_path}: damaged or of another shard; run `dvc repro -f shard`")
    return TokenShard(
        path=path,
        tokens=tokens,
        document_starts=np.frombuffer(index, dtype="<i8"),
        tokenizer_fingerprint=fingerprint.decode("ascii", errors="replace"),
    )


def check_tokenizer(shard: TokenShard, fingerprint: str) -> None:
    """Raise ValueError when a shard was made with another tokenizer."""
    if shard.tokenizer_fingerprint != fingerprint:
        raise ValueError(
            f"{shard.path}: made with tokenizer {shard.tokenizer_fingerprint}, not {fingerprint}; "
            "run `dvc repro shard`"
        )
