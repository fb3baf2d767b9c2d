"""The same fan-out over the workers of a Dask scheduler, on any number of machines.

The scheduler and its workers are started by people (`dask scheduler`, `dask worker`), in a checkout of this
project with the same code; parts and results are paths below a folder that all machines share. Dask speaks
pickle: keep its ports inside a network you trust, or give it TLS (its own configuration, `tls://`).
"""

import functools
import hashlib
import itertools
import platform
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")
CONNECT_S = 20.0
ASK_S = 30.0
"""How long to wait for a part before asking whether any worker is left."""
COUNT_S = 1.0
"""How long a count of the cluster's threads is good for."""
IN_FLIGHT = 2
"""Parts for each thread of the cluster: see map_parts."""


def map_on_cluster(
    function: Callable[[Part], Result], parts: Sequence[Part], address: str
) -> Iterator[Result]:
    """Yield function(part) in the order of the parts.

    A part whose worker died goes to another one; RuntimeError when more workers died on it than Dask's
    `distributed.scheduler.allowed-failures`. Raises ValueError when Dask is not installed, the scheduler
    does not answer or has no worker, or a worker runs other code.
    """
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise ValueError(
            "workers.engine: dask is not installed; type `pip install 'rawgpt[cluster]'`, or set local"
        ) from None
    call = functools.partial(_call, function, code_hash())
    client = _connect(Client, address)
    try:
        waiting: deque[Any] = deque()
        remaining = iter(parts)
        window, asked_s = 0, -COUNT_S
        while True:
            if time.monotonic() - asked_s > COUNT_S:  # workers come and go
                window, asked_s = IN_FLIGHT * max(1, sum(client.nthreads().values())), time.monotonic()
            for part in itertools.islice(remaining, max(0, window - len(waiting))):
                waiting.append(client.submit(call, part, pure=False))
            if not waiting:
                return
            yield _result(client, waiting.popleft(), address)
    except KilledWorker as error:
        raise RuntimeError(
            f"{address}: too many workers died on one part (out of memory?): {error}"
        ) from None
    finally:
        client.close()  # what is not done is forgotten by the scheduler


@functools.cache
def code_hash() -> str:
    """Hash the source of the package gpt as it lies on this machine."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _connect(client_class: Any, address: str) -> Any:
    """Return a client of a scheduler that has at least one worker."""
    try:
        client = client_class(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ValueError(
            f"workers.address: no Dask scheduler at {address} ({type(error).__name__}); "
            "start one with `dask scheduler`, or set workers.engine to local"
        ) from None
    try:
        client.wait_for_workers(1, timeout=CONNECT_S)
    except TimeoutError:
        client.close()
        raise ValueError(
            f"workers.address: the scheduler at {address} has no worker; start some, in this project's "
            f"folder, with `dask worker {address} --nthreads 1 --nworkers 2`"
        ) from None
    return client


def _result(client: Any, future: Any, address: str) -> Any:
    """Return a future's result; say it when the last worker left and the part waits for a new one."""
    while True:
        try:
            return future.result(timeout=ASK_S)
        except TimeoutError:
            if future.done():  # the function itself timed out on something
                raise
            if not client.nthreads():
                print(f"{address}: no worker is left; waiting for one", file=sys.stderr, flush=True)


def _call(function: Callable[[Part], Result], code: str, part: Part) -> Result:
    """Run on the worker: refuse other code than the caller's."""
    if code_hash() != code:
        raise ValueError(
            f"the Dask worker on {platform.node()} runs another version of gpt/ than this process; "
            "bring it to the same commit and start it anew"
        )
    return function(part)
