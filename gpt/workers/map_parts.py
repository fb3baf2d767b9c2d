"""Apply a function to parts, in order, with few parts in memory. Knows nothing of text or tokens."""

import itertools
import multiprocessing
import os
import signal
import threading
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
    if workers.engine == "dask":
        from gpt.workers.dask_parts import map_on_cluster  # the package is an extra

        yield from map_on_cluster(function, parts, workers.address)
        return
    n = min(workers.processes or len(os.sched_getaffinity(0)), len(parts))
    if n <= 1:
        yield from map(function, parts)
        return
    waiting: deque[Future[Result]] = deque()
    remaining = iter(parts)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n, mp_context=context, initializer=_die_with_parent) as pool:
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


def _die_with_parent() -> None:
    """Kill this process when its parent is gone: the pool's own queue never tells a worker."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()
