"""gpt/parallel/launch.py: one exit code and one sentence out of many ranks."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from gpt.parallel import launch as launcher
from gpt.parallel.launch import launch
from gpt.parallel.process_group import EXIT_PEER_LOST

HEAD = "import os, signal, sys, time; rank = int(os.environ['RANK'])\n"


def ranks(body: str, n: int = 2) -> int:
    return launch([sys.executable, "-c", HEAD + body], n, "stage")


def test_what_ranks_are_told(tmp_path: Path) -> None:
    """Guards: two ranks of one number, an address that is not this machine's, rank 1 on the terminal."""
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"]
    body = f"open({str(tmp_path)!r} + f'/{{rank}}', 'w').write(' '.join(os.environ[n] for n in {names}))"
    assert ranks(body, 3) == 0
    assert [(tmp_path / str(i)).read_text() for i in range(3)] == [f"{i} {i} 3 127.0.0.1" for i in range(3)]


def test_a_killed_rank_is_named_and_the_others_end(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards: ranks that wait for ever; the code of a survivor taken for the cause; two messages."""
    monkeypatch.setattr(launcher, "GRACE_S", 0.3)
    assert ranks("os.kill(os.getpid(), signal.SIGKILL) if rank == 1 else time.sleep(600)") == EXIT_PEER_LOST
    assert capfd.readouterr().err == (
        "stage: rank 1 of 2 was ended by SIGKILL; all ranks have ended, and the same command resumes\n"
    )


def test_an_error_of_another_rank_is_shown_with_its_code(capfd: pytest.CaptureFixture[str]) -> None:
    """Guards: the one rank that knows what is wrong saying it to nobody."""
    body = f"sys.exit({EXIT_PEER_LOST}) if rank == 0 else (print('no disk', file=sys.stderr), sys.exit(2))"
    assert ranks(body) == 2
    assert capfd.readouterr().err == "rank 1: no disk\n"
    assert ranks(f"sys.exit({EXIT_PEER_LOST} if rank else 1)") == 1
    assert capfd.readouterr().err == ""


def test_a_signal_in_set_up_ends_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards: a rank that waits for the timeout, minutes, for one that has obeyed at once; a stop that looks
    like a fault. Rank 1 obeys, rank 0 waits for it and would for ever, or loses it."""
    monkeypatch.setattr(launcher, "STOP_S", 0.3)
    for end in ("time.sleep(600)", f"sys.exit({EXIT_PEER_LOST})"):
        body = (
            "def stop(*_):\n"
            f"    sys.exit(143) if rank == 1 else {end}\n"
            "signal.signal(signal.SIGTERM, stop)\n"
            f"open({str(tmp_path)!r} + f'/ready-{{rank}}', 'w').close()\n"
            "time.sleep(600)\n"
        )
        for file in tmp_path.iterdir():
            file.unlink()
        threading.Thread(target=send_when_ready, args=(tmp_path,)).start()
        assert ranks(body) == 143


def send_when_ready(folder: Path) -> None:
    """Send this process SIGTERM when two ranks have said that they are ready."""
    deadline = time.monotonic() + 60
    while len(list(folder.glob("ready-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_is_passed_on_and_all_may_save(tmp_path: Path) -> None:
    """Guards: a launcher that dies of SIGTERM before its ranks, or kills them while they save."""
    body = (
        "def stop(*_):\n"
        "    time.sleep(0.5)\n"
        f"    open({str(tmp_path)!r} + f'/saved-{{rank}}', 'w').close()\n"
        "    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"open({str(tmp_path)!r} + f'/ready-{{rank}}', 'w').close()\n"
        "time.sleep(600)\n"
    )

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=send_when_ready, args=(tmp_path,)).start()
    assert ranks(body) == 143
    assert len(list(tmp_path.glob("saved-*"))) == 2
    assert signal.getsignal(signal.SIGTERM) == before
