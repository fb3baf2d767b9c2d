"""A root file system in memory: {path without leading slash: Entry}, without owners, times and inodes."""

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file, folder or symbolic link."""

    mode: int
    """File type and permission bits, as in stat(2)."""
    data: bytes = b""
    """Content; of a symbolic link, its target."""


Tree = dict[str, Entry]


def file(data: bytes, permissions: int = 0o644) -> Entry:
    """Return a regular file."""
    return Entry(mode=stat.S_IFREG | permissions, data=data)


def folder(permissions: int = 0o755) -> Entry:
    """Return a folder."""
    return Entry(mode=stat.S_IFDIR | permissions)


def symlink(target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(mode=stat.S_IFLNK | 0o777, data=target.encode())


def under(prefix: str, tree: Tree) -> Tree:
    """Return the tree moved into the folder `prefix`."""
    return {prefix: folder()} | {f"{prefix}/{path}": entry for path, entry in tree.items()}


def with_parents(tree: Tree) -> Tree:
    """Return the tree with every missing parent folder; a parent comes before what it holds.

    Raises ValueError for a path that leaves the tree.
    """
    whole: Tree = {}
    for path, entry in tree.items():
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or path in ("", ".") or str(pure) != path:
            raise ValueError(f"{path!r}: a plain relative path is needed inside an image")
        for parent in pure.parents:
            if str(parent) != ".":
                whole.setdefault(str(parent), tree.get(str(parent), folder()))
        whole[path] = entry
    return dict(sorted(whole.items()))


def read_folder(root: Path, wanted: Callable[[str], bool] = lambda path: True) -> Tree:
    """Read a folder from disk: contents and paths only, so that umask and owner change nothing."""
    tree: Tree = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and wanted(name):
            tree[name] = file(path.read_bytes())
    return tree
