"""Ranks for tests: processes on loopback that run functions together, and end by process id.

Importing torch (and what its optimizers import, torch._dynamo) costs seconds: the processes are forked from
a server that has imported it and done nothing else, and a `Ranks` keeps them for many calls. A rank that
fails takes the others down, and the test sees that rank's traceback. The meeting point is a store of the
test's own process, as under torchrun: no port is guessed.
"""

import multiprocessing
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from gpt.parallel.process_group import PeerLost, ProcessGroup, open_group

Function = Callable[..., Any]
COLLECTIVE_S = 20.0
"""A collective that takes longer is a hang."""


class Ranks:
    """`world_size` gloo processes; `run` calls a function on each."""

    def __init__(
        self, world_size: int, *, collective_s: float = COLLECTIVE_S, stderr_dir: Path | None = None
    ) -> None:
        self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", "torch.distributed", "torch._dynamo"])
        self.processes, self.pipes = [], []
        for rank in range(world_size):
            ours, theirs = context.Pipe()
            stderr = None if stderr_dir is None else stderr_dir / str(rank)
            arguments = (theirs, rank, world_size, self.store.port, collective_s, stderr)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self.pipes.append(ours)

    def run(self, function: Function, *arguments: Any, timeout_s: float = 60.0) -> list[Any]:
        """Return function(group, *arguments) of every rank; the function must be importable.

        Raises AssertionError with the traceback of the first rank that failed.
        """
        self.start(function, *arguments)
        results: dict[int, Any] = {}
        while len(results) < len(self.pipes):
            open_pipes = [pipe for rank, pipe in enumerate(self.pipes) if rank not in results]
            ready = wait(open_pipes, timeout_s)
            if not ready:
                self.end()
                raise AssertionError(f"{function.__name__}: no answer within {timeout_s} s")
            for pipe in ready:
                rank = self.pipes.index(pipe)  # type: ignore[arg-type]
                try:
                    is_good, results[rank] = pipe.recv()  # type: ignore[union-attr]
                except EOFError:
                    is_good, results[rank] = False, "its process ended\n"
                if not is_good:
                    self.end()
                    raise AssertionError(f"{function.__name__} on rank {rank}:\n{results[rank]}")
        return [results[rank] for rank in range(len(self.pipes))]

    def start(self, function: Function, *arguments: Any) -> None:
        """Send a call to every rank and do not wait for its result."""
        for pipe in self.pipes:
            pipe.send((function, arguments))

    def end(self) -> None:
        """Kill what still runs, by process id."""
        for process in self.processes:
            if process.is_alive():
                process.kill()
            process.join()


def _serve(
    pipe: Connection, rank: int, world_size: int, port: int, collective_s: float, stderr: Path | None
) -> None:
    """Answer calls until the test's process closes the pipe."""
    if stderr is not None:  # pytest's capture does not reach what a fork server has started
        os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT), 2)
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # rank 0 is a client of the store too
        "GLOO_SOCKET_IFNAME": "lo",
    }
    with open_group("gloo", collective_s) as group:
        while True:
            try:
                function, arguments = pipe.recv()
            except EOFError:
                return
            pipe.send(_answer(function, group, arguments))


def _answer(function: Function, group: ProcessGroup, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, function(group, *arguments)
    except PeerLost:
        raise  # the group's own affair: it ends this process
    except BaseException:  # pytest's failures are no Exceptions
        return False, traceback.format_exc()
