"""Documents out of files: txt, md, jsonl (each also .gz or .bz2), parquet, folders, archives.

An id is the file's name below the source, for a record its `id` or else the hash of its text; so
it does not move when other documents are added. Not a cleaner: text comes as it is in the file.
"""

import bz2
import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gpt.corpus.archives import is_archive, read_members

TEXT_KINDS = (".txt", ".md")
RECORD_KINDS = (".jsonl", ".parquet")
UNPACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".bz2": bz2.decompress}


def read_documents(source: Path, *, text_field: str, members: str | None = None) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of every document of a file, folder or archive, in the order of their names.

    Raises ValueError with the path for what is missing, empty, not UTF-8 or of no known kind.
    """
    if not source.exists():
        raise ValueError(f"{source}: no such file or folder; check fetch.source in params.yaml")
    if source.is_dir():
        files = [file for file in sorted(source.rglob("*")) if _is_wanted(file, source)]
        if not files:
            kinds = " ".join(TEXT_KINDS + RECORD_KINDS)
            raise ValueError(f"{source}: this folder holds no text; files that are read: {kinds}")
        for file in files:
            prefix = file.relative_to(source).as_posix()
            yield from _read_file(file, prefix, text_field)
    elif is_archive(source):
        if members is None:
            raise ValueError(f"{source}: archives are read for registry sets only; unpack it first")
        for name, content in read_members(source, members):
            yield name.rsplit("/", 1)[-1], _decode(content, f"{source}:{name}")
    else:
        yield from _read_file(source, source.name, text_field)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a jsonl file, plain or packed. Raises ValueError with file and line."""
    for number, line in enumerate(_decode(_read_bytes(path), str(path)).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not JSON ({error.msg}); mend the line") from None
        if not isinstance(record, dict):
            raise ValueError(f"{path}:{number}: a JSON object is expected; mend the line")
        yield record


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, plain or packed. Raises ValueError with the offset of a bad byte."""
    return _decode(_read_bytes(path), str(path))


def _kind(path: Path) -> str:
    """The suffix that says what a file holds: `.jsonl` for `a.jsonl.bz2`."""
    return Path(path.stem).suffix if path.suffix in UNPACKERS else path.suffix


def _is_wanted(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return file.is_file() and not hidden and _kind(file) in TEXT_KINDS + RECORD_KINDS


def _read_file(path: Path, prefix: str, text_field: str) -> Iterator[tuple[str, str]]:
    kind = _kind(path)
    if kind == ".jsonl":
        yield from _record_documents(read_records(path), path, prefix, text_field)
    elif kind == ".parquet":
        yield from _record_documents(_parquet_records(path, text_field), path, prefix, text_field)
    elif kind in TEXT_KINDS:
        yield prefix, read_text(path)
    else:
        kinds = " ".join(TEXT_KINDS + RECORD_KINDS)
        raise ValueError(f"{path}: unknown kind of file '{kind}'; files that are read: {kinds}")


def _record_documents(
    records: Iterator[dict[str, Any]], path: Path, prefix: str, text_field: str
) -> Iterator[tuple[str, str]]:
    for number, record in enumerate(records, 1):
        if text_field not in record:
            fields = ", ".join(sorted(record))
            raise ValueError(
                f"{path}: record {number} has no field '{text_field}'; it has {fields}: "
                "set fetch.text_field to one of them"
            )
        text = record[text_field]
        if not isinstance(text, str):
            raise ValueError(f"{path}: record {number}: '{text_field}' holds {type(text).__name__}, not text")
        key = record.get("id")
        if key is None:
            key = hashlib.sha256(text.encode()).hexdigest()[:16]
        yield f"{prefix}#{key}", text


def _parquet_records(path: Path, text_field: str) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a parquet file ({str(error).splitlines()[0]})") from None
    wanted = [name for name in file.schema_arrow.names if name in (text_field, "id")]
    if text_field not in wanted:
        wanted = file.schema_arrow.names  # the caller's message lists them
    for batch in file.iter_batches(columns=wanted):
        yield from batch.to_pylist()


def _read_bytes(path: Path) -> bytes:
    content = path.read_bytes()
    unpack = UNPACKERS.get(path.suffix)
    if unpack is None:
        return content
    try:
        return unpack(content)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: damaged {path.suffix} file ({error}); replace it") from None


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: not UTF-8 at byte {error.start} (0x{content[error.start]:02x}); "
            f"convert it: iconv -f latin1 -t utf-8 FILE > NEW"
        ) from None
