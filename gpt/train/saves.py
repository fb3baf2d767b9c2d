"""When a save fails: a periodic one is said loudly and tried again later, a last one ends the run.

A full disk must neither end a long run that could still finish nor be found out after it. The older
checkpoints stand in the meantime.
"""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol

from gpt.checkpoint.background import BackgroundSaver
from gpt.checkpoint.resume import ResumeState
from gpt.parallel.engine import Engine
from gpt.parallel.process_group import PeerLost
from gpt.train.budget import Budget
from gpt.train.metrics import MetricSink
from gpt.train.progress import Progress


class Saver(Protocol):
    """Saves one state at a time beside the training."""

    def start(self, state: ResumeState) -> None:
        """Copy a state and begin to write it. Raises what the save before raised."""

    def poll(self) -> None:
        """Raise what the save in flight raised, if it has ended; never wait."""

    def wait(self) -> None:
        """Wait for the save in flight; raise what it raised."""


class Saves:
    """The saves of one run, the account of its budget among them. Without a folder it saves nothing."""

    def __init__(
        self,
        resume_dir: Path | None,
        engine: Engine,
        budget: Budget,
        progress: Progress,
        sink: MetricSink,
    ) -> None:
        self.saver = None if resume_dir is None else _saver(resume_dir, engine)
        self.budget = budget
        self.progress = progress
        self.sink = sink
        self.n_failed = 0

    def start(self, state: ResumeState) -> None:
        """Copy a state and begin to save it."""
        if self.saver is not None:
            self._tolerate(state.step, self.saver.wait)
            self.saver.start(state)

    def poll(self, step: int) -> None:
        """Say what went wrong since the last step; note down what the run has spent."""
        if self.saver is not None:
            self._tolerate(step, self.saver.poll)
            self._tolerate(step, self.budget.write)

    def finish(self) -> None:
        """Wait for the last save. Raises OSError when it failed."""
        if self.saver is not None:
            self.saver.wait()

    def _tolerate(self, step: int, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self.n_failed += 1
            where = f"{error.filename}: " if error.filename else ""
            self.progress.say(
                f"NOT SAVED: {where}{error.strerror or error}; tried again at the next interval"
            )
            self.sink.log(step, {"failed_saves": self.n_failed})

    def __enter__(self) -> "Saves":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the save in flight end and close the account; an error here hides nothing."""
        if self.saver is not None:
            if not isinstance(error, PeerLost):  # its save would wait for the rank that is gone
                self._tolerate(0, self.saver.wait)
            self._tolerate(0, lambda: self.budget.write(at_once=True))


def _saver(resume_dir: Path, engine: Engine) -> Saver:
    if engine.group.world_size == 1:
        return BackgroundSaver(resume_dir)
    from gpt.checkpoint.sharded_save import ShardedSaver  # DCP takes seconds to import

    return ShardedSaver(resume_dir, engine)
