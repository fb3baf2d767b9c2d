"""One line of progress: rewritten in place on a terminal, a plain line a log interval elsewhere."""

import sys
import time

MAX_COLUMNS = 79
DROPPED_FIRST = ("mfu", "val", "tok")
"""Parts that give way, in this order, where a line would be too long."""


class Progress:
    """Steps, loss, tokens/s, MFU, time left, dollars spent."""

    def __init__(self, name: str, n_steps: int, *, first_step: int = 0, is_on: bool = True) -> None:
        """Begin; one that is not on (a rank beside the first) prints nothing."""
        self.name = name
        self.n_steps = n_steps
        self.first_step = first_step
        self.started = time.monotonic()
        self.is_on = is_on
        self.is_terminal = sys.stderr.isatty()
        self._is_open = False
        """Whether the cursor stands behind a line that may be rewritten."""

    def line(self, step: int, metrics: dict[str, float]) -> str:
        """Return the state after `step` steps in at most MAX_COLUMNS characters."""
        spent = time.monotonic() - self.started
        left = int(spent / max(1, step - self.first_step) * (self.n_steps - step))
        parts = {"step": f"{self.name} {step}/{self.n_steps}"}
        for key, label in (("loss", "loss"), ("val_loss", "val")):
            if key in metrics:
                parts[label] = f"{label} {metrics[key]:.3f}"
        if "tokens_per_s" in metrics:
            parts["tok"] = f"{_short(metrics['tokens_per_s'])} tok/s"
        if "mfu" in metrics:
            parts["mfu"] = f"mfu {metrics['mfu']:.0%}"
        parts["eta"] = f"eta {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
        if "dollars" in metrics:
            parts["cost"] = f"${metrics['dollars']:.2f}"
        for part in DROPPED_FIRST:
            if len(" | ".join(parts.values())) > MAX_COLUMNS:
                parts.pop(part, None)
        return " | ".join(parts.values())[:MAX_COLUMNS]

    def show(self, step: int, metrics: dict[str, float]) -> None:
        """Print the state after `step` steps."""
        if not self.is_on:
            return
        line = self.line(step, metrics)
        if self.is_terminal:
            self._is_open = step < self.n_steps
            end = "" if self._is_open else "\n"
            print(f"\r{line:<{MAX_COLUMNS}}", end=end, file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a text of its own below the line."""
        if not self.is_on:
            return
        if self._is_open:
            print(file=sys.stderr)
            self._is_open = False
        print(text, file=sys.stderr, flush=True)

    def tell(self, text: str) -> None:
        """Print a sentence about the run to stdout."""
        if self.is_on:
            print(f"{self.name}: {text}", flush=True)


def _short(number: float) -> str:
    """Return a count in three or four digits: 987, 12.3k, 1.23M."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}" if number < 1000 * limit else f"{number / limit:.0f}{unit}"
    return f"{number:.0f}"
