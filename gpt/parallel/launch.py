"""Starts the ranks of one machine and ends them together: torchrun's variables, on the loopback interface.

Why not torchrun itself: its launcher turns every failure into exit code 1 and a page of its own, and answers
SIGTERM by ending the ranks. Ranks are alike under either; several machines need torchrun.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import IO, Any

import torch.distributed as dist

from gpt.parallel.process_group import EXIT_PEER_LOST, LAUNCHER

GRACE_S = 10.0
"""How long the other ranks may take to notice that one has failed, and to end by themselves."""
STOP_S = 60.0
"""The same when they were told to stop: rank 0 has results of its own to close."""
POLL_S = 0.05


@dataclass(kw_only=True)
class Launched:
    """The ranks of this machine, rank 0 first, and what happened to them."""

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    errors: list[IO[bytes]] = field(default_factory=list)
    """What every rank but the first has written to stderr."""
    signal: int = 0
    """Passed on to all."""
    failed: list[int] = field(default_factory=list)
    """Ranks that ended badly by themselves."""

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """Send a signal to every rank: the first ends the step and saves, the second ends at once."""
        self.signal = number
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def wait(self) -> None:
        """Wait until all have ended; from the first that failed on no longer than GRACE_S."""
        deadline = float("inf")
        while any(process.poll() is None for process in self.processes) and time.monotonic() < deadline:
            if self._note_failed():
                deadline = min(deadline, time.monotonic() + GRACE_S)
            elif self.signal and any(process.poll() is not None for process in self.processes):
                deadline = min(deadline, time.monotonic() + STOP_S)
            time.sleep(POLL_S)
        self._note_failed()
        self.kill()

    def _note_failed(self) -> bool:
        """Note which ranks have ended badly by themselves; return whether there are any."""
        good = (0, 128 + self.signal) if self.signal else (0,)
        self.failed = [
            i for i, p in enumerate(self.processes) if p.poll() is not None and p.returncode not in good
        ]
        return bool(self.failed)

    def kill(self) -> None:
        """End what still runs, by process id."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def verdict(self, label: str) -> int:
        """Return the exit code of all; say what happened when rank 0 has not said it itself."""
        codes = [process.returncode for process in self.processes]
        if self.signal and any(codes) and all(codes[rank] == EXIT_PEER_LOST for rank in self.failed):
            return 128 + self.signal  # in set-up ranks stop one by one, and the others miss them
        if not self.failed:
            return codes[0]
        first = min(self.failed, key=self._blame)
        code = codes[first]
        if code > 0 and code != EXIT_PEER_LOST:  # its own error, of which the others knew nothing
            if first:
                self.errors[first].seek(0)
                sys.stderr.write(f"rank {first}: {self.errors[first].read().decode(errors='replace')}")
            return code
        how = (
            f"was ended by {signal.Signals(-code).name}"
            if code < 0
            else "lost another rank, which did not answer"
        )
        print(
            f"{label}: rank {first} of {len(self.processes)} {how}; all ranks have ended, "
            "and the same command resumes",
            file=sys.stderr,
            flush=True,
        )
        return EXIT_PEER_LOST

    def _blame(self, rank: int) -> tuple[int, int]:
        """Order ranks by how likely they are the cause: killed, failed, and last those that lost a peer."""
        code = self.processes[rank].returncode
        return (0 if code < 0 else 2 if code == EXIT_PEER_LOST else 1), rank


def launch(command: Sequence[str], n_ranks: int, label: str) -> int:
    """Run a command as so many ranks; return one exit code, EXIT_PEER_LOST when a rank was lost.

    SIGTERM and Ctrl-C are passed on. Only rank 0 writes to stdout and stderr while all is well.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # no port is guessed
    common = {
        "WORLD_SIZE": str(n_ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # rank 0 is a client of this store, too
        "GLOO_SOCKET_IFNAME": "lo",
        LAUNCHER: str(os.getpid()),
    }
    launched = Launched()
    before = {number: signal.signal(number, launched.pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for rank in range(n_ranks):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
            quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": errors} if rank else {}
            launched.errors.append(errors)
            launched.processes.append(
                # a session of its own: the terminal's Ctrl-C comes through here, once
                subprocess.Popen(command, env=os.environ | common | own, start_new_session=True, **quiet)
            )
        launched.wait()
    finally:
        launched.kill()
        for number, handler in before.items():
            signal.signal(number, handler)
    return launched.verdict(label)
