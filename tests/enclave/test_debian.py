"""Debian packages made here by hand, unpacked without dpkg."""

import gzip
import io
import lzma
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pyarrow
import pytest

from gpt.enclave.debian import read_deb


def zstd(data: bytes) -> bytes:
    """Compress with pyarrow's stream."""
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


COMPRESSIONS = {".xz": lzma.compress, ".gz": gzip.compress, ".zst": zstd, "": bytes}


def ar(members: dict[str, bytes]) -> bytes:
    """Write an ar archive."""
    data = b"!<arch>\n"
    for name, content in members.items():
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        data += content + b"\n" * (len(content) % 2)
    return data


def data_tar(*extra: tarfile.TarInfo) -> bytes:
    """Write a tar with a program, a hard link to it, a symbolic link, a manual page and `extra`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        program = tarfile.TarInfo("./usr/bin/tool")
        program.size, program.mode = 7, 0o755
        archive.addfile(program, io.BytesIO(b"program"))
        manual = tarfile.TarInfo("./usr/share/man/tool.1")
        manual.size = 3
        archive.addfile(manual, io.BytesIO(b"man"))
        hard, soft, directory = (tarfile.TarInfo(f"./usr/{n}") for n in ("hard", "soft", "lib/"))
        hard.type, hard.linkname = tarfile.LNKTYPE, "./usr/bin/tool"
        soft.type, soft.linkname = tarfile.SYMTYPE, "bin/tool"
        directory.type = tarfile.DIRTYPE
        for member in (hard, soft, directory, *extra):
            archive.addfile(member)
    return buffer.getvalue()


def deb(path: Path, ending: str = ".xz", tar: bytes | None = None) -> Path:
    """Write a package whose data is compressed as its name says."""
    tar = data_tar() if tar is None else tar
    members = {"debian-binary": b"2.0\n", f"data.tar{ending}": COMPRESSIONS[ending](tar)}
    path.write_bytes(ar(members))
    return path


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_files_links_and_rights(tmp_path: Path, ending: str) -> None:
    """Guards a lost executable bit, an empty hard link and a filter that is not asked."""
    tree = read_deb(deb(tmp_path / "t.deb", ending), lambda path: "man" not in path)
    assert set(tree) == {"usr/bin/tool", "usr/hard", "usr/soft", "usr/lib"}
    assert stat.S_IMODE(tree["usr/bin/tool"].mode) == 0o755
    assert tree["usr/hard"].data == b"program"
    assert (stat.S_ISLNK(tree["usr/soft"].mode), tree["usr/soft"].data) == (True, b"bin/tool")
    assert stat.S_ISDIR(tree["usr/lib"].mode)


def unsafe(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return a tar with a hostile member."""
    member = tarfile.TarInfo(name)
    member.type = kind
    return data_tar(member)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\3\4", "not a Debian package"),
        (ar({"debian-binary": b"2.0\n"}), "no data.tar"),
        (ar({"data.tar.lz4": b""}), "unknown compression of data.tar.lz4"),
        (ar({"data.tar": data_tar()})[:-700], "ends behind the file"),
        (ar({"data.tar": b""})[:-9], "damaged ar archive"),
        (ar({"data.tar": unsafe("./../../etc/passwd")}), "unsafe path"),
        (ar({"data.tar": unsafe("/etc/passwd")}), "unsafe path"),
        (ar({"data.tar": unsafe("./dev/mem", tarfile.CHRTYPE)}), "is a device"),
    ],
)
def test_what_is_no_package_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """Guards an unpacker that a hostile or broken download leads astray."""
    path = tmp_path / "bad.deb"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_deb(path, lambda path: True)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb on this host")
def test_dpkg_reads_our_test_package_alike(tmp_path: Path) -> None:
    """Guards a test archive that only our own reader takes for a package."""
    package = deb(tmp_path / "t.deb")
    with_control = package.read_bytes().replace(b"!<arch>\n", b"", 1)
    split = with_control.index(b"data.tar")
    control = ar({"control.tar.xz": lzma.compress(data_tar())})[8:]
    package.write_bytes(b"!<arch>\n" + with_control[:split] + control + with_control[split:])
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True)
    assert done.stdout == data_tar()
    assert "usr/soft" in read_deb(package, lambda path: True)
