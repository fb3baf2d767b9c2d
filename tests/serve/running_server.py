"""`rawgpt serve` in a process of its own, ended by its id."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Running(NamedTuple):
    """A server that answers."""

    url: str
    process: subprocess.Popen[str]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)


@contextmanager
def running_server(
    root: Path, options: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Serve what stands under `root` on a free port of the loopback address; at the end SIGTERM must do."""
    command = [sys.executable, "-m", "rawgpt", "serve", "--port", "0", *options]
    own = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})}
    with (root / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=root, env=own, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r" on (http://127\.0\.0\.1:\d+)$", line.strip())
        assert found, line + (root / "log").read_text()
        yield Running(found.group(1), process)
    finally:
        process.terminate()
        code = process.wait(timeout=60)
    assert code == -signal.SIGTERM, (root / "log").read_text()


def exchange(running: Running, raw: bytes, *, limit_s: float = 60.0, half_close: bool = False) -> bytes:
    """Send bytes over a connection of their own; return all that comes until the server closes it."""
    with socket.create_connection(running.address, timeout=limit_s) as connection:
        try:
            connection.sendall(raw)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            seen = b""
            while piece := connection.recv(65536):
                seen += piece
        except ConnectionError:  # it was closed before everything was sent
            return b""
        return seen
