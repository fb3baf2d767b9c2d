"""gpt/parallel/process_group.py: who takes part, and what happens when somebody no longer does."""

import hashlib
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from gpt.parallel.process_group import (
    EXIT_PEER_LOST,
    VARIABLES,
    ProcessGroup,
    close_group,
    open_group,
    rank_seed,
)
from tests.distributed import Ranks
from tests.parallel.training import Case, build, loss_of, micro_batches, shard

TIMEOUT_S = 5.0
AMPLE_S = 30.0
"""A busy machine starts processes slowly; a hang would be the timeouts of torch, minutes."""


def train_until_a_rank_stops(group: ProcessGroup, case: Case, stopping: int, which: int) -> None:
    """Train; rank 1 sends itself a signal between the forward and the backward pass of step 2."""
    zero3 = shard(build(case), group, case)
    for group.step in range(case.steps):
        loss = loss_of(zero3.module, micro_batches(case, group.step)[0])  # type: ignore[arg-type]
        if group.rank == stopping and group.step == 2:
            os.kill(os.getpid(), which)
        loss.backward()
        zero3.clip_grad_norm(1.0)


@pytest.mark.parametrize("which", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
def test_a_lost_rank_brings_the_others_down(which: int, tmp_path: Path) -> None:
    """Guards: ranks that wait for ever for one that is gone, and a wall of tracebacks about it."""
    ranks = Ranks(2, collective_s=TIMEOUT_S, stderr_dir=tmp_path)
    try:
        ranks.start(train_until_a_rank_stops, Case(), 1, which)
        began = time.monotonic()
        ranks.processes[0].join(AMPLE_S)
        took_s = time.monotonic() - began
        assert ranks.processes[0].exitcode == EXIT_PEER_LOST
    finally:
        ranks.end()
    said = (tmp_path / "0").read_text().splitlines()
    assert len(said) == 1, said
    assert said[0].startswith("rank 0 of 2, step 2: ")
    assert "run the same command again" in said[0]
    assert took_s < AMPLE_S


def share(group: ProcessGroup, value: float) -> tuple[list[list[float]], float]:
    row = torch.tensor([value, float(group.rank)])
    return group.gather_rows(row).tolist(), float(group.mean(torch.tensor(float(group.rank))))


def test_collectives_of_four_and_of_one() -> None:
    """Guards: rows out of the ranks' order; a world of one that needs torch.distributed."""
    assert share(ProcessGroup(0, 1, 0, torch.device("cpu")), 7.0) == ([[7.0, 0.0]], 0.0)
    ranks = Ranks(4)
    try:
        rows = [[7.0, float(rank)] for rank in range(4)]
        assert ranks.run(share, 7.0) == [(rows, 1.5)] * 4
    finally:
        ranks.end()


def test_alone_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: half of torchrun's variables read as a world of one, every rank training for itself."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with open_group("gloo", 1.0) as group:
        assert (group.rank, group.world_size, group.local_rank) == (0, 1, 0)
    close_group(group)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ValueError, match="WORLD_SIZE: not set"):
        open_group("gloo", 1.0)
    with pytest.raises(ValueError, match="timeout_s"):
        open_group("gloo", 0.0)


def test_seeds_differ_by_rank_and_rank_zero_is_the_single_process() -> None:
    """Guards: equal dropout masks on all ranks; a run whose numbers change when it is sharded over one."""
    digest = hashlib.sha256(b"3/11").digest()
    assert rank_seed(3, 11, 0) == int.from_bytes(digest[:8], "little") >> 1
    assert len({rank_seed(3, step, rank) for step in range(8) for rank in range(8)}) == 64
