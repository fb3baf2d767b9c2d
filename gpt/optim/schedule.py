"""Learning rate over the peak, as a pure function of the step.

Sources: Loshchilov and Hutter 2016 (cosine); Hu et al. 2024, MiniCPM (warm-up, stable, decay).
"""

import math

from gpt.optim.config import OptimConfig


def lr_ratio(config: OptimConfig, step: int, n_steps: int) -> float:
    """Return the factor on the peak learning rate at `step` in 0..n_steps-1."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    floor = config.min_lr_ratio
    if config.schedule == "cosine":
        progress = (step - config.warmup_steps) / max(1, n_steps - config.warmup_steps)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    decay_steps = max(1, round(config.decay_fraction * n_steps))
    left = n_steps - step
    return 1.0 if left >= decay_steps else floor + (1 - floor) * left / decay_steps
