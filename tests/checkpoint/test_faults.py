"""gpt/checkpoint/faults.py: nothing happens unless it is asked for, and then at its turn."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt.checkpoint import faults


@pytest.fixture(autouse=True)
def _disarm() -> Iterator[None]:
    yield
    faults.arm(None)


def outcomes(n: int) -> list[bool]:
    """Hit a point n times; say which hits failed."""
    failed = []
    for _ in range(n):
        try:
            faults.hit("checkpoint.write", Path("a"))
            failed.append(False)
        except OSError:
            failed.append(True)
    return failed


def test_a_fault_comes_at_its_turn() -> None:
    """Guards: a fault test that passes because its fault never happened."""
    assert outcomes(4) == [False] * 4
    faults.arm("checkpoint.write:enospc@2")
    assert outcomes(4) == [False, True, False, False]
    faults.arm("checkpoint.write:eio@3+")
    assert outcomes(4) == [False, False, True, True]
    faults.arm("checkpoint.after_write:eio@1+")
    assert outcomes(4) == [False] * 4


@pytest.mark.parametrize("spec", ["checkpoint.write", "nowhere:kill@1", "checkpoint.write:explode@1", "x@y"])
def test_a_misspelt_fault_is_refused(spec: str) -> None:
    """Guards: a fault test that passes because its fault was misspelt."""
    with pytest.raises(ValueError, match="RAWGPT_FAULT: got"):
        faults.arm(spec)
