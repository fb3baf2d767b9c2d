"""The cpio archive: deterministic, read back, and read by cpio(1) where there is one."""

import gzip
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from gpt.enclave.cpio import compress, read_cpio, write_cpio
from gpt.enclave.file_tree import file, folder, read_folder, symlink, with_parents

TREE = {
    "z/last": file(b"12345", 0o600),
    "a/b/run": file(b"#!/bin/sh\n", 0o755),
    "a/link": symlink("b/run"),
    "empty": folder(0o700),
    "nothing": file(b""),
}


def test_one_entry_byte_by_byte() -> None:
    """Guards the header's fields: derived by hand from the kernel's buffer-format page."""
    fields = "00000001 000081a4 00000000 00000000 00000001 00000000 00000003 " + "00000000 " * 4
    fields += "00000002 00000000"
    expected = b"070701" + fields.replace(" ", "").encode() + b"a\0" + b"hey\0"  # 110 + 2 is whole
    assert write_cpio({"a": file(b"hey")})[: len(expected)] == expected


def test_round_trip_in_any_order() -> None:
    """Guards lost parents, and bytes that depend on the order in which a tree was filled."""
    archive = write_cpio(TREE)
    assert read_cpio(archive) == with_parents(TREE)
    assert list(read_cpio(archive)) == ["a", "a/b", "a/b/run", "a/link", "empty", "nothing", "z", "z/last"]
    assert write_cpio(dict(reversed(TREE.items()))) == archive
    assert len(archive) % 4 == 0


def test_time_and_rights_of_the_disk_do_not_count(tmp_path: Path) -> None:
    """Guards an image that differs by umask or by the time of a checkout."""
    archives = []
    for name, mode in (("one", 0o600), ("two", 0o644)):
        path = tmp_path / name / "guest" / "m.py"
        path.parent.mkdir(parents=True)
        path.write_text("x = 1\n")
        path.chmod(mode)
        os.utime(path, (1, time.time() if name == "two" else 5))
        archives.append(compress(write_cpio(read_folder(tmp_path / name)), "gzip", 6))
    assert archives[0] == archives[1]


def test_compression_is_what_the_kernel_reads() -> None:
    """Guards a gzip header that carries a time or a name."""
    data = compress(b"x" * 1000, "gzip", 9)
    assert data[:9] == b"\x1f\x8b\x08\x00\0\0\0\0\x02"
    assert gzip.decompress(data) == b"x" * 1000
    assert compress(b"x", "none", 9) == b"x"


@pytest.mark.parametrize("path", ["/etc/passwd", "../out", "a/../b", "a//b", "", "."])
def test_paths_that_leave_the_tree(path: str) -> None:
    """Guards an archive that writes outside of its root."""
    with pytest.raises(ValueError, match="plain relative path"):
        write_cpio({path: file(b"")})


@pytest.mark.parametrize("cut", [0, 50, 200])
def test_a_cut_archive_is_refused(cut: int) -> None:
    """Guards a reader that takes the first half for the whole."""
    with pytest.raises(ValueError, match="cpio"):
        read_cpio(write_cpio(TREE)[:cut])


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio(1) on this host")
def test_cpio_reads_it() -> None:
    """Guards a format that only our own reader understands."""
    done = subprocess.run(["cpio", "-t", "--quiet"], input=write_cpio(TREE), capture_output=True)
    assert done.stdout.decode().split() == list(with_parents(TREE))
