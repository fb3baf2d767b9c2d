"""Batches ahead of the step that needs them: a thread reads while the device computes.

What is read, and in which order, is decided by the run's dials before the first step: it changes neither
the order nor what a resume does. Copying to the device is not its work (gpt/train/step.py). Batches that
are made with the current weights are not read ahead: the step that needs one makes it.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from gpt.dataset.loader import Batches, may_read_ahead
from gpt.train.config import TrainConfig

AHEAD = 2
"""Batches read ahead: one may be slow to come off a cold disk without a step that waits for it."""


def micro_batches(config: TrainConfig, first_step: int) -> Iterator[tuple[int, int]]:
    """Yield cursor and count of every micro batch from a step on."""
    for step in range(first_step, config.steps):
        for i in range(config.grad_accumulation):
            cursor = step * config.samples_per_step + i * config.micro_batch_size
            yield cursor, config.micro_batch_size


class Prefetch:
    """Batches read in the given order and in no other, in pinned memory if they go to a GPU."""

    def __init__(self, batches: Batches, order: Iterator[tuple[int, int]], device: torch.device) -> None:
        self._batches = batches
        self._order = order
        self._is_ahead = may_read_ahead(batches)
        self._pins = device.type == "cuda" and self._is_ahead
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._waiting: deque[tuple[tuple[int, int], Future[tuple[Tensor, ...]]]] = deque()
        for _ in range(AHEAD if self._is_ahead else 0):
            self._read_next()

    def batch(self, cursor: int, count: int) -> tuple[Tensor, ...]:
        """Return the next batch, which must be this one. Raises what reading it raised."""
        if not self._is_ahead:
            return self._batches.batch(cursor, count)
        expected, future = self._waiting.popleft()
        assert expected == (cursor, count), f"asked for {(cursor, count)}, read {expected}"
        batch = future.result()
        self._read_next()
        return batch

    def _read_next(self) -> None:
        if (place := next(self._order, None)) is not None:
            self._waiting.append((place, self._pool.submit(self._read, *place)))

    def _read(self, cursor: int, count: int) -> tuple[Tensor, ...]:
        parts = self._batches.batch(cursor, count)
        return tuple(part.pin_memory() for part in parts) if self._pins else parts

    def close(self) -> None:
        """Stop reading; a batch that is being read is read to its end."""
        self._pool.shutdown(cancel_futures=True)
