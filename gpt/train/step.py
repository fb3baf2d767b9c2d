"""The gradients of one optimizer step: forward and backward over its micro batches."""

import torch
from torch import Tensor, nn

from gpt.checkpoint import faults
from gpt.dataset.loader import Batches
from gpt.train.config import TrainConfig
from gpt.train.objective import Objective
from gpt.train.precision import Precision


def accumulate_gradients(
    forward: nn.Module,
    batches: Batches,
    objective: Objective,
    config: TrainConfig,
    step: int,
    precision: Precision,
) -> dict[str, Tensor | float]:
    """Add the mean gradient of the step's samples; return the mean metrics, still on the device.

    The samples are those from the cursor `step * samples_per_step` on.
    """
    sums: dict[str, Tensor | float] = {}
    for i in range(config.grad_accumulation):
        faults.hit("train.micro_batch")
        cursor = step * config.samples_per_step + i * config.micro_batch_size
        parts = batches.batch(cursor, config.micro_batch_size)
        batch = tuple(_on_device(part, precision.device) for part in parts)
        with precision.autocast():
            loss, metrics = objective(forward, batch)
        precision.backward(loss / config.grad_accumulation)
        for key, value in metrics.items():
            part = value.detach() if isinstance(value, Tensor) else value
            sums[key] = sums.get(key, 0.0) + part / config.grad_accumulation
    return sums


def _on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to the device; to a GPU from memory that prefetch pinned, so that nobody waits for it."""
    return tensor.to(device, non_blocking=device.type == "cuda")
