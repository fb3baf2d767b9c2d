"""Debian packages without dpkg and without root: ar archive -> data.tar -> tree of files in memory.

No maintainer script is run: what a script would have done (alternatives, caches) the rootfs does itself.
Source: deb(5), the format of a Debian binary package.
"""

import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

from gpt.enclave.file_tree import Tree, file, folder, symlink

AR_MAGIC = b"!<arch>\n"
AR_HEADER_BYTES = 60


def read_ar(data: bytes, path: Path) -> dict[str, bytes]:
    """Return the members of an ar archive; `path` is named in the errors."""
    if data[:8] != AR_MAGIC:
        raise ValueError(f"{path}: not a Debian package (no ar header); fetch it again")
    members: dict[str, bytes] = {}
    at = len(AR_MAGIC)
    while at < len(data):
        header = data[at : at + AR_HEADER_BYTES]
        if len(header) < AR_HEADER_BYTES or header[58:] != b"`\n":
            raise ValueError(f"{path}: damaged ar archive at byte {at}; fetch it again")
        name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
        at += AR_HEADER_BYTES
        if at + size > len(data):
            raise ValueError(f"{path}: {name} ends behind the file; fetch it again")
        members[name] = data[at : at + size]
        at += size + size % 2
    return members


def read_deb(path: Path, wanted: Callable[[str], bool]) -> Tree:
    """Return the package's files, links and folders whose path (without leading slash) is wanted.

    Raises ValueError for what is no Debian package, an unknown compression or an unsafe path.
    """
    members = read_ar(path.read_bytes(), path)
    data_name = next((name for name in members if name.startswith("data.tar")), None)
    if data_name is None:
        raise ValueError(f"{path}: no data.tar in it; fetch it again")
    tree: Tree = {}
    with tarfile.open(fileobj=io.BytesIO(_unpack(members[data_name], data_name, path))) as archive:
        for member in archive:
            name = member.name.removeprefix("./").rstrip("/")
            if name in ("", ".") or not wanted(name):
                continue
            if name.startswith("/") or ".." in name.split("/"):
                raise ValueError(f"{path}: unsafe path {member.name!r} in it")
            if member.isdir():
                tree[name] = folder(member.mode & 0o777)
            elif member.issym():
                tree[name] = symlink(member.linkname)
            elif member.isfile() or member.islnk():
                content = archive.extractfile(member)
                assert content is not None, name
                tree[name] = file(content.read(), member.mode & 0o777)
            else:
                raise ValueError(f"{path}: {name} is a device; a package may not bring one")
    return tree


def _unpack(data: bytes, name: str, path: Path) -> bytes:
    """Undo the compression that a member's name tells."""
    if name.endswith(".xz"):
        return lzma.decompress(data)
    if name.endswith(".gz"):
        return gzip.decompress(data)
    if name.endswith(".zst"):
        import pyarrow  # the standard library reads zstd from Python 3.14 on

        with pyarrow.input_stream(pyarrow.BufferReader(data), compression="zstd") as stream:
            return bytes(stream.read())
    if name == "data.tar":
        return data
    raise ValueError(f"{path}: unknown compression of {name}; xz, gz, zst or none is read")
