"""When a save fails: a periodic one is said loudly and tried again later, a last one ends the run.

A full disk must neither end a long run that could still finish nor be found out after it. The older
checkpoints stand in the meantime.
"""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from gpt.checkpoint.background import BackgroundSaver
from gpt.checkpoint.resume import ResumeState
from gpt.train.budget import Budget
from gpt.train.metrics import MetricSink
from gpt.train.progress import Progress


class Saves:
    """The saves of one run, the account of its budget among them. Without a folder it saves nothing."""

    def __init__(self, resume_dir: Path | None, budget: Budget, progress: Progress, sink: MetricSink) -> None:
        self.saver = None if resume_dir is None else BackgroundSaver(resume_dir)
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
            self._tolerate(0, self.saver.wait)
            self._tolerate(0, lambda: self.budget.write(at_once=True))
