"""What a run has spent, in seconds and dollars over all its attempts, and when that is enough.

The account is a file of its own beside the checkpoints: a killed attempt loses at most WRITE_EVERY_S of
it, and no checkpoint depends on a clock. The learning-rate schedule never looks at the budget: a run that
is stopped by it has not decayed as far as its dials say, and a larger budget goes on exactly there.
"""

import json
import os
import time
from pathlib import Path

from gpt.train.config import TrainConfig

ACCOUNT = "spent.json"
WRITE_EVERY_S = 5.0


class Budget:
    """Seconds and dollars spent, against max_minutes and max_dollars."""

    def __init__(self, config: TrainConfig, folder: Path | None) -> None:
        """Read what earlier attempts spent; without a folder, there were none. Raises ValueError."""
        self.config = config
        self.path = path = None if folder is None else folder / ACCOUNT
        self._started = self._written = time.monotonic()
        self._before = 0.0
        if path is not None and path.exists():
            try:
                self._before = float(json.loads(path.read_text(encoding="utf-8"))["spent_s"])
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{path}: damaged; delete it to count from zero again") from None

    def spent_s(self) -> float:
        """Return the seconds of all attempts."""
        return self._before + time.monotonic() - self._started

    def dollars(self) -> float:
        """Return the price of all attempts; 0 where an hour has none."""
        return self.spent_s() / 3600 * self.config.dollars_per_hour

    def is_spent(self) -> bool:
        """Return whether a limit is reached."""
        minutes, dollars = self.config.max_minutes, self.config.max_dollars
        return bool((minutes and self.spent_s() >= 60 * minutes) or (dollars and self.dollars() >= dollars))

    def write(self, *, at_once: bool = False) -> None:
        """Note the account down, at most every WRITE_EVERY_S unless `at_once`. Raises OSError."""
        now = time.monotonic()
        if self.path is None or not (at_once or now - self._written >= WRITE_EVERY_S):
            return
        self._written = now
        fresh = self.path.with_suffix(".tmp")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"spent_s": round(self.spent_s(), 3)}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.path)
