"""gpt/workers/map_parts.py: order, errors and dead processes."""

import os
import signal
from collections.abc import Iterator

import pytest

from gpt.workers.config import WorkersConfig
from gpt.workers.map_parts import map_parts


def square(n: int) -> tuple[int, int]:
    return n * n, os.getpid()


def refuse_three(n: int) -> int:
    if n == 3:
        raise ValueError("part 3: not mine")
    return n


def die_at_three(n: int) -> int:
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_parts(processes: int) -> None:
    """Guards: results in the order of their arrival, which would make a corpus' order a matter of luck."""
    results = list(map_parts(square, range(20), WorkersConfig(processes=processes)))
    assert [value for value, _ in results] == [n * n for n in range(20)]
    assert (os.getpid() in {pid for _, pid in results}) == (processes == 1)


def test_an_error_of_a_part_is_the_callers() -> None:
    """Guards: a ValueError for the user that arrives as a traceback of the pool."""
    results: Iterator[int] = map_parts(refuse_three, range(6), WorkersConfig(processes=2))
    with pytest.raises(ValueError, match="part 3: not mine"):
        list(results)


def test_a_killed_process_is_named() -> None:
    """Guards: waiting for ever for a part whose process the kernel killed."""
    with pytest.raises(RuntimeError, match="a worker process was killed"):
        list(map_parts(die_at_three, range(6), WorkersConfig(processes=2)))


def test_processes_is_checked() -> None:
    with pytest.raises(ValueError, match="processes: 0"):
        WorkersConfig(processes=-1)
