"""One line of progress: rewritten in place on a terminal, a plain line a log interval elsewhere."""

import sys
import time


class Progress:
    """Steps, loss, tokens/s, MFU, time left."""

    def __init__(self, name: str, n_steps: int, *, first_step: int = 0) -> None:
        self.name = name
        self.n_steps = n_steps
        self.first_step = first_step
        self.started = time.monotonic()
        self.is_terminal = sys.stderr.isatty()

    def show(self, step: int, metrics: dict[str, float]) -> None:
        """Print the state after `step` steps."""
        spent = time.monotonic() - self.started
        left = spent / max(1, step - self.first_step) * (self.n_steps - step)
        parts = [f"{self.name} {step}/{self.n_steps}"]
        parts += [f"{key} {metrics[key]:.3f}" for key in ("loss", "val_loss") if key in metrics]
        if "tokens_per_s" in metrics:
            parts.append(f"{metrics['tokens_per_s']:,.0f} tok/s")
        if "mfu" in metrics:
            parts.append(f"mfu {metrics['mfu']:.0%}")
        parts.append(f"eta {int(left // 60)}:{int(left % 60):02d}")
        line = " | ".join(parts)
        if self.is_terminal:
            print(f"\r{line:<79}", end="\n" if step == self.n_steps else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)
