"""Apply a function to parts, in order, with few parts in memory. Knows nothing of text or tokens."""

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from gpt.workers.config import WorkersConfig

Part = TypeVar("Part")
Result = TypeVar("Result")
IN_FLIGHT = 2
"""Parts a process has in hand or waiting: enough that none idles, few enough that results do not pile up."""


def map_parts(
    function: Callable[[Part], Result], parts: Sequence[Part], workers: WorkersConfig
) -> Iterator[Result]:
    """Yield function(part) in the order of the parts.

    One part, or one process: no process is started. `function` and the parts must pickle. An error of
    the function is raised here; RuntimeError when a process was killed.
    """
    n = min(workers.processes or len(os.sched_getaffinity(0)), len(parts))
    if n <= 1:
        yield from map(function, parts)
        return
    waiting: deque[Future[Result]] = deque()
    remaining = iter(parts)
    with ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for part in itertools.islice(remaining, IN_FLIGHT * n):
                waiting.append(pool.submit(function, part))
            while waiting:
                result = waiting.popleft().result()
                for part in itertools.islice(remaining, 1):
                    waiting.append(pool.submit(function, part))
                yield result
        except BrokenProcessPool:
            raise RuntimeError("a worker process was killed (out of memory?); run it again") from None
        finally:
            pool.shutdown(cancel_futures=True)
