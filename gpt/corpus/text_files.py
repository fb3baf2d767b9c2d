"""Documents out of files: txt, md, jsonl (each also .gz, .bz2 or .zst), parquet, folders, archives.

An id is the file's name below the source, for a record its `id` or else the hash of its text; so
it does not move when other documents are added. Records are read one at a time, parquet in small batches: a
file may be larger than memory (one .txt is one document, and is held). Not a cleaner: text comes as it is in
the file.
"""

import bz2
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from gpt.corpus.archives import is_archive, read_members

TEXT_KINDS = (".txt", ".md")
RECORD_KINDS = (".jsonl", ".parquet")
PACKINGS = (".gz", ".bz2", ".zst")
BATCH_ROWS = 64
"""Parquet rows held at a time: a row may be a whole book."""


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
    number = 0
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                record = json.loads(_decode(line, where))
            except json.JSONDecodeError as error:
                raise ValueError(f"{where}: not JSON ({error.msg}); mend the line") from None
            if not isinstance(record, dict):
                raise ValueError(f"{where}: a JSON object is expected; mend the line")
            yield record


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, plain or packed. Raises ValueError with the offset of a bad byte."""
    with _opened(path) as file:
        content = file.read()
    return _decode(content, str(path))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, plain or packed, for reading bytes; damage that shows while it is read names the file."""
    openers = {".gz": gzip.open, ".bz2": bz2.open, ".zst": _open_zstd}
    opener: Any = openers.get(path.suffix)
    if opener is None:
        with path.open("rb") as file:
            yield file
        return
    try:
        with opener(path) as file:
            yield cast(IO[bytes], file)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged {path.suffix} file ({error}); replace it") from None


def _open_zstd(path: Path) -> IO[bytes]:
    """Open a .zst file of one frame or several; Arrow's reader refuses a cut frame, zstandard's does not."""
    import io

    import pyarrow

    packed = pyarrow.input_stream(path, compression="zstd")
    return cast(IO[bytes], io.BufferedReader(packed, buffer_size=1 << 18))


def _kind(path: Path) -> str:
    """The suffix that says what a file holds: `.jsonl` for `a.jsonl.bz2`."""
    return Path(path.stem).suffix if path.suffix in PACKINGS else path.suffix


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
        # no pre-buffering: it reads a whole row group ahead
        file = parquet.ParquetFile(
            path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a parquet file ({str(error).splitlines()[0]})") from None
    wanted = [name for name in file.schema_arrow.names if name in (text_field, "id")]
    if text_field not in wanted:
        wanted = file.schema_arrow.names  # the caller's message lists them
    with file:
        for group in range(file.num_row_groups):
            try:
                for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=wanted):
                    yield from batch.to_pylist()
            except OSError as error:
                detail = str(error).splitlines()[0]
                raise ValueError(f"{path}: row group {group} is damaged ({detail}); replace it") from None


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: not UTF-8 at byte {error.start} (0x{content[error.start]:02x}); "
            f"convert it: iconv -f latin1 -t utf-8 FILE > NEW"
        ) from None
