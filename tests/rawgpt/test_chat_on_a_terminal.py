"""`rawgpt chat` on a pseudo-terminal, with Ctrl-C and Ctrl-D."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

from gpt.model.config import ModelConfig
from gpt.tokenizer.tokenizer import Tokenizer
from tests.generate.tiny_checkpoint import save_tiny

ROOT = Path(__file__).parents[2]


def _as_on_a_terminal() -> None:
    """Ctrl-C comes from a controlling terminal, and is not ignored, as whatever a shell put behind `&` is."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_session_on_a_terminal(tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer) -> None:
    """Guards: Ctrl-C that ends the program, Ctrl-D that does not, lines of ours beyond 80 columns."""
    save_tiny(tmp_path / "models/finetune/checkpoint", modern, tokenizer, max_seq_len=4096, never_stops=True)
    terminal, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "rawgpt",
        "chat",
        "--max-tokens",
        "4000",
        "--seed",
        "1",
        "--temperature",
        "0",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "dumb"}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_as_on_a_terminal,
    )
    os.close(theirs)
    seen = ""

    def expect(pattern: str, typed: bytes = b"") -> None:
        """Wait for a pattern. What is typed is typed again every few seconds: a Ctrl-C between the prompt and
        Python's wait for a key is heard at the next key alone.
        """
        nonlocal seen
        end, due = time.monotonic() + 60, time.monotonic()
        while not re.search(pattern, seen):
            if typed and time.monotonic() >= due:
                os.write(terminal, typed)
                due = time.monotonic() + 5
            assert time.monotonic() < end, f"{pattern!r} never came: {seen[-500:]!r}"
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 4096).decode("utf-8", "replace")
        seen = re.split(pattern, seen, maxsplit=1)[-1]

    try:
        expect(r"finetune: context 4096 tokens, seed 1; /help helps")
        expect("> ")
        os.write(terminal, b"hi\n")
        expect(r"hi\r\n(?s:.{20})")  # it speaks
        os.write(terminal, b"\x03")
        expect(r"\(stopped\)")
        expect("> ")
        expect("ends the chat", typed=b"\x03")
        os.write(terminal, b"/help\n")
        expect("Ctrl-C stops an answer")
        os.write(terminal, b"\x04")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
