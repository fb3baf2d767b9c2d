"""SIGTERM and Ctrl-C: the first lets the step end and the state be saved, the second ends at once."""

import os
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """`with StopSignals() as stop:` notes a signal in `stop.received`; 0 until one comes.

    Python gives signals to the main thread alone: elsewhere nothing is caught. Outside the block they do
    what they did before.
    """

    def __init__(self, *, is_on: bool = True) -> None:
        self.received = 0
        self._before: dict[signal.Signals, Any] = {}
        self._is_on = is_on and threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "StopSignals":
        if self._is_on:
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            os._exit(128 + number)
        self.received = number
        name = signal.Signals(number).name
        os.write(2, f"\n{name}: ends after this step and saves; once more ends at once\n".encode())
