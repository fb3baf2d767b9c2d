"""Own data in: files, folders, records, archives; and the one-line refusals."""

import bz2
import gzip
import io
import json
import random
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from gpt.corpus.archives import read_members
from gpt.corpus.text_files import read_documents, read_records

TEXTS = ["namaste duniya", "ek aur दस्तावेज़"]


def documents(path: Path, field: str = "text") -> list[tuple[str, str]]:
    return list(read_documents(path, text_field=field))


def test_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    """The order of a directory listing differs between machines; hidden files are nobody's text."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.md").write_text(TEXTS[1], encoding="utf-8")
    (tmp_path / "a.txt").write_text(TEXTS[0])
    (tmp_path / "c.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.txt").write_text("no")
    assert documents(tmp_path) == [("a.txt", TEXTS[0]), ("b/two.md", TEXTS[1])]


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".zst"])
def test_jsonl_plain_and_packed(tmp_path: Path, suffix: str) -> None:
    """Records keep their id; one without gets the hash of its text, wherever it stands."""
    lines = [{"id": 7, "body": TEXTS[0]}, {"body": TEXTS[1]}]
    content = "\n".join(json.dumps(line) for line in lines).encode()
    path = tmp_path / f"own.jsonl{suffix}"
    path.write_bytes(pack(suffix, content))
    (first, second) = documents(path, "body")
    assert first == (f"{path.name}#7", TEXTS[0])
    assert second[1] == TEXTS[1]
    path.write_bytes(pack(suffix, "\n".join(json.dumps(line) for line in reversed(lines)).encode()))
    assert documents(path, "body")[0] == second


def test_parquet_column(tmp_path: Path) -> None:
    """A column by name; a missing one lists those there are."""
    path = tmp_path / "own.parquet"
    parquet.write_table(pa.table({"text": TEXTS, "n": [1, 2]}), path)
    assert [text for _, text in documents(path)] == TEXTS
    with pytest.raises(ValueError, match=r"no field 'body'; it has n, text: set fetch.text_field"):
        documents(path, "body")
    path.write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match="not a parquet file"):
        documents(path)


def test_bad_input_is_one_clear_line(tmp_path: Path) -> None:
    """Each mistake names the path and what to do, never a traceback."""
    latin = tmp_path / "latin.txt"
    latin.write_bytes("caf\u00e9 au lait".encode("latin1"))
    with pytest.raises(ValueError, match=r"latin.txt: not UTF-8 at byte 3 \(0xe9\); convert it: iconv"):
        documents(latin)
    with pytest.raises(ValueError, match=r"gone: no such file or folder; check fetch.source"):
        documents(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no text; files that are read: \.txt"):
        documents(tmp_path / "empty")
    (tmp_path / "x.docx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"unknown kind of file '\.docx'"):
        documents(tmp_path / "x.docx")
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(ValueError, match=r"x.jsonl:2: not JSON"):
        documents(tmp_path / "x.jsonl")
    (tmp_path / "y.jsonl").write_text('{"text": 5}')
    with pytest.raises(ValueError, match="record 1: 'text' holds int, not text"):
        documents(tmp_path / "y.jsonl")
    (tmp_path / "z.jsonl.bz2").write_bytes(b"BZh9 nonsense")
    with pytest.raises(ValueError, match=r"damaged .bz2 file"):
        list(read_records(tmp_path / "z.jsonl.bz2"))


def pack(kind: str, content: bytes) -> bytes:
    if kind == ".zst":
        return pa.compress(content, codec="zstd", asbytes=True)
    return {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[kind](content)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
def test_a_damaged_packed_file_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    """Guards: a cut download read as a shorter corpus: most readers of .zst end silently there. The content
    does not compress, so that every cut is inside of data."""
    noise = random.Random(0).randbytes(3000).hex()
    content = b"".join(b'{"text": "%s"}\n' % noise[i : i + 60].encode() for i in range(0, 6000, 60))
    path = tmp_path / f"x.jsonl{suffix}"
    whole = pack(suffix, content)
    path.write_bytes(whole)
    assert len(documents(path)) == 100
    for cut in (1, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=rf"x.jsonl{suffix}: damaged {suffix} file .*; replace it"):
            documents(path)
    path.write_bytes(whole + whole)  # two frames one after the other: what `cat` and `zstd -T0` write
    assert len(list(read_records(path))) == 200


def test_a_bad_line_of_a_packed_file_is_named(tmp_path: Path) -> None:
    """Guards: 'invalid start byte' for a file of a million lines."""
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(pack(".zst", b'{"text": "a"}\n\n{"text": "caf\xe9"}\n'))
    with pytest.raises(ValueError, match=r"x.jsonl.zst:3: not UTF-8 at byte 13 \(0xe9\)"):
        documents(path)


def test_a_damaged_row_group_is_refused_by_name(tmp_path: Path) -> None:
    """Guards: a flipped byte in a page that still decodes to some text."""
    path = tmp_path / "x.parquet"
    rows = pa.table({"text": [f"document number {i}" for i in range(1000)]})
    options: dict[str, Any] = {"use_dictionary": False, "compression": "none", "write_page_checksum": True}
    parquet.write_table(rows, path, row_group_size=100, **options)
    raw = path.read_bytes()
    at = raw.index(b"document number 555")
    path.write_bytes(raw[:at] + b"D" + raw[at + 1 :])
    with pytest.raises(ValueError, match=r"x.parquet: row group 5 is damaged"):
        documents(path)


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "jsonl.bz2", "jsonl.zst", "parquet"])
def test_a_large_file_is_read_in_small_memory(tmp_path: Path, kind: str) -> None:
    """Guards: a corpus that must fit into memory. 24 MB of text in 24 row groups or packed streams; a batch
    of 64 rows is 0.64 MB."""
    text = "namaste duniya " * 667  # 10 kB
    path = tmp_path / f"x.{kind}"
    if kind == "parquet":
        schema = pa.schema([("text", pa.string())])
        with parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
            for _ in range(24):
                writer.write_table(pa.table({"text": [f"{i} {text}" for i in range(100)]}))
    else:
        lines = "".join(json.dumps({"text": f"{i} {text}"}) + "\n" for i in range(100))
        path.write_bytes(pack(kind.removeprefix("jsonl"), lines.encode()) * 24)
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        size = highest = 0
        for _, document in read_documents(path, text_field="text"):
            size += len(document)
            highest = max(highest, pa.total_allocated_bytes() - arrow)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 24e6
    assert peak < 6e6
    assert highest < 6e6


def make_tar(path: Path, members: dict[str, bytes], link: str | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link is not None:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    return path


@pytest.mark.parametrize("name", ["../up.txt", "/abs.txt", "a/../../up.txt", "C:/x.txt", "..\\up.txt"])
def test_member_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    """The zip-slip: a member named ../x would be written over a file of the user's."""
    tar = make_tar(tmp_path / "a.tar.gz", {"good.txt": b"g", name: b"x"})
    with pytest.raises(ValueError, match="points outside of the archive: refused"):
        list(read_members(tar, "good.txt"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("good.txt", "g")
        packed.writestr(name, "x")
    with pytest.raises(ValueError, match="points outside of the archive: refused"):
        list(read_members(tmp_path / "a.zip", "good.txt"))


def test_archive_members(tmp_path: Path) -> None:
    """Members come sorted and by pattern; links, damage and an empty match are refused."""
    tar = make_tar(tmp_path / "a.tar.gz", {"p/b_gut.txt": b"2", "p/a_gut.txt": b"1", "p/a_gut_f.txt": b"3"})
    assert list(read_members(tar, "p/*_gut.txt")) == [("p/a_gut.txt", b"1"), ("p/b_gut.txt", b"2")]
    assert next(iter(read_documents(tar, text_field="text", members="p/*_gut.txt"))) == ("a_gut.txt", "1")
    with pytest.raises(ValueError, match="no member matches 'q/\\*'"):
        list(read_members(tar, "q/*"))
    linked = make_tar(tmp_path / "l.tar.gz", {}, link="p/a_gut.txt")
    with pytest.raises(ValueError, match="is not a regular file"):
        list(read_members(linked, "p/*"))
    tar.write_bytes(tar.read_bytes()[:60])
    with pytest.raises(ValueError, match="damaged archive"):
        list(read_members(tar, "p/*"))
    with pytest.raises(ValueError, match="unpack it first"):
        documents(tar)
