"""The doctor's looks at the machine: Python, torch and its devices, memory, disk, locked packages."""

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rawgpt.check import Check

OLDEST, NEWEST = (3, 11), (3, 13)
GIB = 2**30
MIN_MEMORY_BYTES = 4 * GIB
MIN_DISK_BYTES = 5 * GIB
LOCK = Path("requirements.lock")


def check_python() -> Iterator[Check]:
    """Compare the interpreter with what pyproject.toml allows."""
    here = ".".join(map(str, sys.version_info[:3]))
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        yield Check(name="python", status="ok", detail=here)
    else:
        detail = f"{here}; {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} is needed"
        yield Check(name="python", status="fail", detail=detail, remedy="make setup PYTHON=python3.11")


def check_torch() -> Iterator[Check]:
    """Import torch and name the devices it can use."""
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Check(name="torch", status="fail", detail=str(error), remedy="make setup")
        return
    yield Check(name="torch", status="ok", detail=f"{torch.__version__}, {torch.get_num_threads()} threads")
    yield Check(name="device cpu", status="ok", detail=f"{os.cpu_count()} cores")
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        gpu = torch.cuda.get_device_properties(index)
        detail = f"{gpu.name}, {gpu.total_memory / GIB:.0f} GiB"
        yield Check(name=f"device cuda:{index}", status="ok", detail=detail)
    if torch.backends.mps.is_available():
        yield Check(name="device mps", status="ok", detail="Apple GPU")


def check_memory() -> Iterator[Check]:
    """Compare free memory with what the laptop profile needs."""
    import psutil

    memory = psutil.virtual_memory()
    detail = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    if memory.available >= MIN_MEMORY_BYTES:
        yield Check(name="memory", status="ok", detail=detail)
    else:
        yield Check(name="memory", status="warn", detail=detail, remedy="close something: 4 GiB are wanted")


def check_disk() -> Iterator[Check]:
    """Compare the free disk with what a run writes."""
    free = shutil.disk_usage(".").free
    detail = f"{free / GIB:.1f} GiB free here"
    if free >= MIN_DISK_BYTES:
        yield Check(name="disk", status="ok", detail=detail)
    else:
        yield Check(name="disk", status="warn", detail=detail, remedy="free some space: 5 GiB are wanted")


def check_packages() -> Iterator[Check]:
    """Compare every installed package with the lock file."""
    if not LOCK.is_file():
        yield Check(name="packages", status="fail", detail=f"no {LOCK}", remedy="cd to the repository's root")
        return
    locked = locked_versions(LOCK.read_text(encoding="utf-8"))
    odd = []
    for name, wanted in sorted(locked.items()):
        try:
            here = version(name)
        except PackageNotFoundError:
            here = "missing"
        if here not in wanted:
            odd.append(f"{name} {here} (lock: {' or '.join(sorted(wanted))})")
    if not odd:
        yield Check(name="packages", status="ok", detail=f"{len(locked)} as in {LOCK}")
        return
    rest = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
    detail = f"{len(odd)} of {len(locked)} differ: {', '.join(odd[:3])}{rest}"
    yield Check(name="packages", status="warn", detail=detail, remedy="make setup")


def locked_versions(text: str) -> dict[str, set[str]]:
    """Return {package: versions that the lock allows on this machine} from a pip-compile file."""
    from packaging.requirements import Requirement

    locked: dict[str, set[str]] = {}
    for line in text.splitlines():
        if not line[:1].isalnum():
            continue  # a hash, a comment
        requirement = Requirement(line.rstrip("\\ "))
        if requirement.marker is None or requirement.marker.evaluate():
            pins = {pin.version for pin in requirement.specifier}
            locked.setdefault(requirement.name, set()).update(pins)
    return locked
