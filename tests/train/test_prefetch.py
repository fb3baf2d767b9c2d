"""gpt/train/prefetch.py: read ahead by a thread, in the order of the run, and never beside it."""

import dataclasses
import threading
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from gpt.dataset.loader import RankSlice, TokenWindows
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.train.loop import train
from gpt.train.objective import Batch, next_token
from gpt.train.prefetch import AHEAD, Prefetch, micro_batches
from tests.train.test_loop import CONFIG, CPU, TOKENS, Sink

DIALS = dataclasses.replace(CONFIG, steps=7, grad_accumulation=2, micro_batch_size=3, eval_every=99)


class Source:
    """Windows that note what was read, by whom; they break at one cursor."""

    def __init__(self, breaks_at: int = -1) -> None:
        self.windows = TokenWindows(TOKENS, 16, seed=1)
        self.breaks_at = breaks_at
        self.read: list[int] = []
        self.threads: set[str] = set()
        self.has_read = threading.Semaphore(0)

    def batch(self, cursor: int, count: int) -> tuple[Tensor, Tensor]:
        self.threads.add(threading.current_thread().name)
        if cursor == self.breaks_at:
            raise OSError(5, "Input/output error", "tokens.bin")
        self.read.append(cursor)
        self.has_read.release()
        return self.windows.batch(cursor, count)


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("first", [0, 3, 7])
def test_the_order_is_the_run_s(first: int) -> None:
    """Guards: a batch skipped, read twice or given to another step; another order after a resume."""
    source, plain = Source(), TokenWindows(TOKENS, 16, seed=1)
    expected = [step * 6 + i * 3 for step in range(first, 7) for i in range(2)]
    assert [cursor for cursor, _ in micro_batches(DIALS, first)] == expected
    ahead = Prefetch(source, micro_batches(DIALS, first), CPU)
    for cursor in expected:
        for a, b in zip(ahead.batch(cursor, 3), plain.batch(cursor, 3), strict=True):
            assert torch.equal(a, b)
    ahead.close()
    assert source.read == expected, "it read past the last step"
    assert not names()


def test_it_reads_ahead_and_no_further() -> None:
    """Guards: a reader that waits to be asked, and one that fills the memory."""
    source = Source()
    ahead = Prefetch(source, micro_batches(DIALS, 0), CPU)
    for _ in range(AHEAD):
        assert source.has_read.acquire(timeout=10), "nothing was read before the first step"
    ahead.batch(0, 3)
    assert source.has_read.acquire(timeout=10)
    ahead.close()
    assert source.read == [0, 3, 6]
    assert all(name.startswith("prefetch") for name in source.threads)


def test_another_order_is_refused() -> None:
    """Guards: a loop that asks for what was not read and silently gets something else."""
    ahead = Prefetch(Source(), micro_batches(DIALS, 0), CPU)
    with pytest.raises(AssertionError, match=r"asked for \(3, 3\), read \(0, 3\)"):
        ahead.batch(3, 3)
    ahead.close()


def run(model_config: ModelConfig, source: Source, dies_at: int = -1) -> nn.Module:
    """Train; the objective of one micro batch raises."""
    torch.set_num_threads(1)
    model, calls = Transformer(model_config), iter(range(1000))
    init_weights(model, 0)

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        if next(calls) == dies_at:
            raise KeyError("in the step")
        return next_token(model, batch)

    train(
        model,
        source,
        objective,
        DIALS,
        name="test",
        validate=lambda model: 0.0,
        sink=Sink(),
        device=CPU,
    )
    return model


def test_an_error_of_the_reader_ends_the_run_with_its_message(modern: ModelConfig) -> None:
    """Guards: a run that hangs, or goes on without the batch, when a disk fails; a thread left behind."""
    with pytest.raises(OSError, match=r"Input/output error: 'tokens\.bin'"):
        run(modern, Source(breaks_at=15))
    assert not names()


def test_an_error_of_the_step_stops_the_reader(modern: ModelConfig) -> None:
    """Guards: a process that never ends because a thread of it still reads."""
    source = Source()
    with pytest.raises(KeyError, match="in the step"):
        run(modern, source, dies_at=4)
    assert not names()
    assert len(source.read) <= 5 + AHEAD


def test_training_reads_from_the_thread(modern: ModelConfig) -> None:
    """Guards: a prefetch that nobody uses; a last step that reads what it does not need."""
    source = Source()
    run(modern, source)
    assert source.read == list(range(0, 42, 3))
    assert len(source.threads) == 1
    assert source.threads.pop().startswith("prefetch")


@pytest.mark.gpu
def test_a_gpu_gets_pinned_memory() -> None:
    """Guards: a copy that makes the step wait for it."""
    ahead = Prefetch(Source(), micro_batches(DIALS, 0), torch.device("cuda"))
    assert all(part.is_pinned() for part in ahead.batch(0, 3))
    ahead.close()


class Online(Source):
    """Batches that are made with the weights of their step."""

    reads_ahead = False


def test_what_depends_on_the_weights_is_not_read_ahead(modern: ModelConfig) -> None:
    """Guards: a batch made with the weights of two steps before, alone or as a rank's share; a thread that
    trains beside the loop."""
    source = Online()
    for batches in (source, RankSlice(source, rank=0, world_size=1)):
        source.read.clear()
        ahead = Prefetch(batches, micro_batches(DIALS, 0), CPU)
        assert not source.has_read.acquire(timeout=0.2)
        ahead.batch(0, 3)
        assert source.has_read.acquire(timeout=10)
        assert not source.has_read.acquire(timeout=0.2)
        ahead.close()
        assert source.read == [0]
    run(modern, source)
    assert source.threads == {threading.current_thread().name}
