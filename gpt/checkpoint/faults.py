"""Faults on purpose, for the tests: `RAWGPT_FAULT=checkpoint.after_write:kill@3` dies at the third hit.

A spec is `<point>:<action>@<k>`: the k-th time that `point` is reached, and with a closing `+` from then
on; `#<rank>` behind all that arms one rank alone. Without the variable `hit` does nothing. The idea is
torchft's EventInjector.
"""

import errno
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

POINTS = (
    "checkpoint.write",  # before each slab of a file
    "checkpoint.after_write",  # a file is written, not yet on the disk
    "checkpoint.after_fsync",  # a file is on the disk
    "checkpoint.after_manifest",  # the folder is whole, under its temporary name
    "checkpoint.after_aside",  # what stood there before is out of the way
    "checkpoint.after_rename",  # the folder has its name
    "checkpoint.after_prune",  # an old state is gone
    "train.micro_batch",  # before each forward pass
)
ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO, "erofs": errno.EROFS}
SPEC = re.compile(
    r"(?P<point>[a-z_.]+):(?P<action>[a-z]+)@(?P<at>[0-9]+)(?P<from_then_on>\+?)(#(?P<rank>[0-9]+))?"
)


@dataclass(kw_only=True, slots=True)
class Fault:
    """What happens where, and how often the point was reached."""

    point: str
    action: str
    at: int
    from_then_on: bool
    hits: int = 0


_armed: Fault | None = None


def arm(spec: str | None) -> None:
    """Arm one fault, or none. Raises ValueError when the spec names no point or action."""
    global _armed
    if not spec:
        _armed = None
        return
    match = SPEC.fullmatch(spec)
    if match is None or match["point"] not in POINTS or match["action"] not in {"kill", *ERRORS}:
        raise ValueError(
            f"RAWGPT_FAULT: got {spec!r}; write <point>:<action>@<k>, point one of {', '.join(POINTS)}, "
            f"action one of kill, {', '.join(ERRORS)}"
        )
    if match["rank"] not in (None, os.environ.get("RANK")):
        _armed = None
        return
    _armed = Fault(
        point=match["point"],
        action=match["action"],
        at=int(match["at"]),
        from_then_on=bool(match["from_then_on"]),
    )


def hit(point: str, path: Path | None = None) -> None:
    """Do what is armed for this point, if it is its turn; `path` goes into the error."""
    fault = _armed
    if fault is None or fault.point != point:
        return
    fault.hits += 1
    if fault.hits == fault.at or (fault.from_then_on and fault.hits > fault.at):
        if fault.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        code = ERRORS[fault.action]
        raise OSError(code, os.strerror(code), str(path))


arm(os.environ.get("RAWGPT_FAULT"))
