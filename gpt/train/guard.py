"""The guard between a gradient and the weights: what is not finite or jumps is not applied.

A pure function of the losses so far, and its state is part of the resume state: a resumed run refuses
the same steps.
"""

import math

MAX_BAD_STEPS = 3
DECAY = 0.98
"""Of the running mean and variance: a memory of about 50 steps."""
MIN_LOSSES = 20
"""Losses seen before a jump can be told from a start."""
MIN_SIGMA = 0.01
"""Nats; a model that has learned its text by heart has nearly constant losses."""


class Guard:
    """Refuses bad steps; ends the run after MAX_BAD_STEPS in a row."""

    def __init__(self, spike_sigma: float) -> None:
        self.spike_sigma = spike_sigma
        self.n_losses = 0
        self.mean = 0.0
        self.variance = 0.0
        self.bad_steps = 0

    def judge(self, loss: float, grad_norm: float, *, may_overflow: bool = False) -> str | None:
        """Return why the step must not be applied, or None; count it.

        With `may_overflow` (fp16) an infinite gradient of a finite loss is the loss scale's affair: refused
        and not counted. Raises ValueError after MAX_BAD_STEPS refusals in a row.
        """
        if math.isfinite(loss) and not math.isfinite(grad_norm) and may_overflow:
            return "the fp16 gradient overflowed; the loss scale is halved"
        reason = None
        sigma = max(math.sqrt(self.variance), MIN_SIGMA)
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            reason = f"not finite: loss {loss}, gradient norm {grad_norm}"
        elif self.spike_sigma and self.n_losses >= MIN_LOSSES and loss > self.mean + self.spike_sigma * sigma:
            sigmas = (loss - self.mean) / sigma
            reason = f"a spike: loss {loss:.4f} is {sigmas:.1f} sigma above the mean {self.mean:.4f}"
        if reason is None:
            self.bad_steps = 0
            self._learn(loss)
            return None
        self.bad_steps += 1
        if self.bad_steps == MAX_BAD_STEPS:
            raise ValueError(
                f"optim.lr: {MAX_BAD_STEPS} bad steps in a row ({reason}); lower it, or raise spike_sigma"
            )
        return reason

    def _learn(self, loss: float) -> None:
        """Take a good loss into the mean and the variance, all weighed alike until the memory is full."""
        self.n_losses += 1
        weight = max(1 / self.n_losses, 1 - DECAY)
        delta = loss - self.mean
        self.mean += weight * delta
        self.variance = (1 - weight) * (self.variance + weight * delta * delta)

    def state(self) -> dict[str, float]:
        """Return what the next judgement depends on."""
        return {
            "n_losses": self.n_losses,
            "mean": self.mean,
            "variance": self.variance,
            "bad_steps": self.bad_steps,
        }

    def load_state(self, state: dict[str, float]) -> None:
        """Restore what state() returned."""
        self.n_losses, self.bad_steps = int(state["n_losses"]), int(state["bad_steps"])
        self.mean, self.variance = state["mean"], state["variance"]
