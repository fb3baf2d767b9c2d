"""The newc cpio archive, which the kernel unpacks as its first root file system, written and read.

The same tree gives the same bytes: sorted names, running inodes, owner 0, time 0.
Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import gzip
import stat

from gpt.enclave.file_tree import Entry, Tree, with_parents

MAGIC = b"070701"
HEADER_BYTES = 110
TRAILER = "TRAILER!!!"
MAX_FILE_BYTES = 2**32 - 1


def write_cpio(tree: Tree) -> bytes:
    """Return the archive of a tree; missing parent folders are added."""
    parts: list[bytes] = []
    for inode, (path, entry) in enumerate(with_parents(tree).items(), start=1):
        if len(entry.data) > MAX_FILE_BYTES:
            raise ValueError(f"{path}: {len(entry.data)} bytes; a cpio holds files below 4 GiB")
        n_links = 2 if stat.S_ISDIR(entry.mode) else 1
        parts += _record(path, inode, entry.mode, n_links, entry.data)
    parts += _record(TRAILER, 0, 0, 1, b"")
    return b"".join(parts)


def _record(path: str, inode: int, mode: int, n_links: int, data: bytes) -> list[bytes]:
    """Return header, name and data, each padded to four bytes."""
    name = path.encode() + b"\0"
    # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    fields = (inode, mode, 0, 0, n_links, 0, len(data), 0, 0, 0, 0, len(name), 0)
    header = MAGIC + b"".join(b"%08x" % field for field in fields)
    return [header + name, bytes(-(HEADER_BYTES + len(name)) % 4), data, bytes(-len(data) % 4)]


def read_cpio(archive: bytes) -> Tree:
    """Read an archive of files, folders and links; raises ValueError where it is damaged."""
    tree: Tree = {}
    at = 0
    while True:
        header = archive[at : at + HEADER_BYTES]
        if len(header) < HEADER_BYTES or header[:6] != MAGIC:
            raise ValueError(f"cpio: no entry header at byte {at}")
        fields = [int(header[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name_at = at + HEADER_BYTES
        name = archive[name_at : name_at + name_size - 1].decode()
        data_at = name_at + name_size + -(HEADER_BYTES + name_size) % 4
        if name == TRAILER:
            return tree
        if data_at + size > len(archive):
            raise ValueError(f"cpio: {name} ends behind the archive")
        tree[name] = Entry(mode=mode, data=archive[data_at : data_at + size])
        at = data_at + size + -size % 4


def compress(archive: bytes, method: str, level: int) -> bytes:
    """Compress a ramdisk as the kernel reads it: gzip without name and time, or `none`."""
    if method == "none":
        return archive
    assert method == "gzip", method
    return gzip.compress(archive, compresslevel=level, mtime=0)
