"""Read named members of a .tar.* or .zip/.whl archive without ever unpacking it to disk.

Not an extractor: a member's name never becomes a path on this machine. A name that climbs out of
the archive, and a link or device among the wanted members, is refused all the same: an archive that
holds one is not what its publisher meant.
"""

import fnmatch
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def is_archive(path: Path) -> bool:
    """Tell by its name whether a file is an archive that this module reads."""
    return path.name.endswith((".zip", ".whl", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def read_members(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the members that match `pattern`, in the order of their names.

    `*` in the pattern matches any characters. Raises ValueError for an unsafe member, a damaged
    archive, and a pattern that matches nothing.
    """
    found = False
    try:
        if archive.name.endswith((".zip", ".whl")):
            with zipfile.ZipFile(archive) as opened:
                for name in sorted(_matching(archive, opened.namelist(), pattern)):
                    found = True
                    yield name, opened.read(name)
        else:
            with tarfile.open(archive) as opened_tar:
                members = {member.name: member for member in opened_tar.getmembers()}
                for name in sorted(_matching(archive, list(members), pattern)):
                    handle = opened_tar.extractfile(members[name]) if members[name].isreg() else None
                    if handle is None:
                        raise ValueError(f"{archive}: member '{name}' is not a regular file")
                    found = True
                    yield name, handle.read()
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{archive}: damaged archive ({error}); remove it and fetch again") from None
    if not found:
        raise ValueError(f"{archive}: no member matches '{pattern}'; see its list of files")


def _matching(archive: Path, names: list[str], pattern: str) -> list[str]:
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if name.startswith(("/", "\\")) or ".." in parts or ":" in (parts[0] if parts else ""):
            raise ValueError(f"{archive}: member '{name}' points outside of the archive: refused")
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]
