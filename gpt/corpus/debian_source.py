"""The `debian` kind of source: one version of a package through apt, without root and without dpkg's lock.

apt keeps its lists in a private folder of the caller when the host's own are stale or empty; the signatures
of the host's Debian keys are checked by apt. The registry checks the sha256 once more.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

LIMIT_S = 600
NETWORK_WORDS = ("could not resolve", "connection", "timed out", "temporary failure", "unreachable")


def download(package: str, version: str, architecture: str, into: Path) -> Path:
    """Download `package=version` into the folder `into`; return the .deb's path.

    Raises OSError: FileNotFoundError where there is no apt or no such version, ConnectionError or
    TimeoutError where the network failed.
    """
    if shutil.which("apt-get") is None:
        raise FileNotFoundError("this host has no apt-get")
    wanted = f"{package}:{architecture}={version}"
    files = into / "files"
    files.mkdir()
    failure = _apt([], ["download", wanted], files)  # the host's own lists, when they are fresh
    if failure is not None:
        failure = _apt(_private_state(architecture), ["download", wanted], files)
    if failure is not None:
        detail = f"apt-get download {wanted}: {failure}"
        if any(word in failure.lower() for word in NETWORK_WORDS):
            raise ConnectionError(detail)
        raise FileNotFoundError(detail)
    (deb,) = files.glob("*.deb")
    return deb


@cache
def _private_state(architecture: str) -> tuple[str, ...]:
    """Make and fill private apt lists, once a process; return the options that point apt at them."""
    folder = Path(tempfile.mkdtemp(prefix="rawgpt-apt-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    status = folder / "status"
    status.touch()
    settings = {
        "Dir::State": folder / "state",
        "Dir::State::status": status,
        "Dir::Cache": folder / "cache",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Debug::NoLocking": "true",
    }
    options = tuple(part for key, value in settings.items() for part in ("-o", f"{key}={value}"))
    failure = _apt(options, ["update"], folder)
    if failure is not None:  # one source of many may be down; the download then says what is missing
        print(f"apt-get update: {failure}", file=sys.stderr)
    return options


def _apt(options: Sequence[str], command: list[str], folder: Path) -> str | None:
    """Run apt-get in `folder`; return what went wrong, or None."""
    # Without a sandbox user apt, when run as root, may write into a folder that only root can enter.
    arguments = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", *options, *command]
    environment = os.environ | {"LC_ALL": "C"}  # the messages are read below
    try:
        done = subprocess.run(
            arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"apt-get took longer than {LIMIT_S} s") from None
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
    return (errors or done.stderr.splitlines() or ["no output"])[-1].removeprefix("E: ")
