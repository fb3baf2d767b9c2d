"""gpt/parallel/expert_exchange.py: tokens to the experts of other ranks and back, and their gradients."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gpt.kernels.grouped_linear import grouped_linear
from gpt.parallel.expert_exchange import AcrossRanks
from gpt.parallel.expert_spread import spread_experts
from gpt.parallel.process_group import EXIT_PEER_LOST, ProcessGroup
from tests.distributed import Ranks
from tests.parallel.expert_training import UNEVEN, build_uneven, loss_of
from tests.parallel.test_process_group import AMPLE_S, TIMEOUT_S
from tests.parallel.training import micro_batches
from tests.tolerances import TOLERANCE

C, F = 3, 5
COUNTS = {
    "uneven": [[3, 0, 1, 2], [0, 4, 0, 2]],
    "rank 1 receives none": [[2, 3, 0, 0], [4, 1, 0, 0]],
    "rank 0 receives none, rank 1 keeps all of its own": [[0, 0, 2, 2], [0, 0, 3, 0]],
}


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs(counts: list[list[int]], rank: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a rank's rows (n, C), both matrices of all experts, and the weights (n, C) of its outputs."""
    n = sum(counts[rank])
    return drawn(rank, n, C), drawn(10, 4, F, C), drawn(11, 4, C, F), drawn(20 + rank, n, C)


def feed_forward(x: Tensor, up: Tensor, down: Tensor, counts: Tensor) -> Tensor:
    """Return (n, C): an expert as smooth as central differences need it."""
    return grouped_linear(torch.tanh(grouped_linear(x, up, counts)), down, counts)


def exchange_loss(
    group: ProcessGroup, counts: Tensor, rows: Tensor, experts: list[Tensor], c: Tensor
) -> Tensor:
    """Return the rank's loss: a weighted sum of what its rows become."""
    exchange = AcrossRanks(counts, group)
    out = exchange.run(lambda x, here: feed_forward(x, experts[0], experts[1], here), rows)
    return (out * c).sum()


def gradients(group: ProcessGroup, counts: list[list[int]]) -> list[tuple[Tensor, Tensor]]:
    """Return (analytic, by central differences) of this rank's rows and of both matrices of its experts.

    Ranks compute in step: while one number of one rank is moved, all of them run the pass.
    """
    own = torch.tensor(counts[group.rank])
    rows, up, down, c = inputs(counts, group.rank)
    rows.requires_grad_()
    experts = [whole.chunk(2)[group.rank].clone().requires_grad_() for whole in (up, down)]
    exchange_loss(group, own, rows, experts, c).backward()

    def all_losses() -> float:
        with torch.no_grad():
            return float(group.gather_rows(exchange_loss(group, own, rows, experts, c).reshape(1)).sum())

    pairs = []
    for which, scale in ((rows, 1.0), (experts[0], 0.5), (experts[1], 0.5)):  # experts: the mean over 2 ranks
        assert which.grad is not None
        numeric = torch.zeros_like(which)
        sizes = group.gather_rows(torch.tensor([float(which.numel())])).flatten().int().tolist()
        for rank, size in enumerate(sizes):
            for i in range(size):
                values = []
                for step in (1e-5, -1e-5):
                    if rank == group.rank:
                        which.data.view(-1)[i] += step
                    values.append(all_losses())
                    if rank == group.rank:
                        which.data.view(-1)[i] -= step
                if rank == group.rank:
                    numeric.view(-1)[i] = scale * (values[0] - values[1]) / 2e-5
        pairs.append((which.grad, numeric))
    return pairs


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS.keys())
def test_gradients_are_the_differences(two: Ranks, counts: list[list[int]]) -> None:
    """Guards: a way back that is not the way there transposed; an expert's gradient summed for a mean, or
    without the tokens of other ranks; in float64, every number of every rank moved."""
    for pairs in two.run(gradients, counts):
        for analytic, numeric in pairs:
            largest = max(float(numeric.abs().max()) if numeric.numel() else 0.0, 1.0)
            gap = float((analytic - numeric).abs().max()) if numeric.numel() else 0.0
            assert gap <= TOLERANCE["experts_gradient_vs_differences"] * largest


def outputs(group: ProcessGroup, counts: list[list[int]]) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return a rank's outputs, the counts of all ranks, its first matrix's gradient, and bytes moved."""
    rows, up, down, c = inputs(counts, group.rank)
    experts = [whole.chunk(2)[group.rank].clone().requires_grad_() for whole in (up, down)]
    group.bytes_moved.clear()
    exchange = AcrossRanks(torch.tensor(counts[group.rank]), group)
    out = exchange.run(lambda x, here: feed_forward(x, experts[0], experts[1], here), rows.requires_grad_())
    (out * c).sum().backward()
    assert experts[0].grad is not None, "zeros, not none: Adam must not pass an idle expert over"
    return out.detach(), exchange.counts, experts[0].grad, group.bytes_moved["all_to_all"]


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS.keys())
def test_rows_come_back_to_their_places(two: Ranks, counts: list[list[int]]) -> None:
    """Guards: rows of two ranks mixed up, an expert that takes its neighbour's. By hand, both directions: a
    rank receives what others have for its experts, its own that others had, and twice the same on the way
    back, rows of C float64 numbers. The experts see the rows of one process in the same order: same bits."""
    results = two.run(outputs, counts)
    everything = [inputs(counts, rank) for rank in range(2)]
    up, down = everything[0][1].requires_grad_(), everything[0][2]
    pieces = [rows.split(counts[rank]) for rank, (rows, *_) in enumerate(everything)]
    merged = torch.cat([pieces[rank][e] for e in range(4) for rank in range(2)])
    totals = torch.tensor(counts).sum(0)
    out = feed_forward(merged, up, down, totals)  # (n, C) expert by expert, in each rank by rank
    parts = out.split([counts[rank][e] for e in range(4) for rank in range(2)])
    weights = [everything[rank][3].split(counts[rank]) for rank in range(2)]
    loss = sum((parts[2 * e + r] * weights[r][e]).sum() for e in range(4) for r in range(2))
    (loss / 2).backward()  # type: ignore[union-attr]
    assert up.grad is not None
    for rank, (got, counted, gradient, n_bytes) in enumerate(results):
        assert torch.equal(got, torch.cat([parts[2 * e + rank] for e in range(4)]))
        assert torch.equal(counted, totals)
        assert torch.equal(gradient, up.grad.chunk(2)[rank])
        here, there = slice(2 * rank, 2 * rank + 2), slice(2 - 2 * rank, 4 - 2 * rank)
        arrived, left = sum(counts[1 - rank][here]), sum(counts[rank][there])
        assert n_bytes == 2 * (arrived + left) * C * 8


def autocast_bytes(group: ProcessGroup) -> tuple[torch.dtype, int]:
    rows = torch.ones(4, C)
    group.bytes_moved.clear()
    with torch.autocast("cpu", torch.bfloat16):
        exchange = AcrossRanks(torch.tensor([1, 1, 1, 1]), group)
        out = exchange.run(lambda x, here: grouped_linear(x, torch.ones(2, C, C), here), rows)
    return out.dtype, group.bytes_moved["all_to_all"]


def test_autocast_sends_what_the_experts_compute_in(two: Ranks) -> None:
    """Guards: fp32 rows sent to experts that compute in bf16. By hand: 2 rows arrive, 2 return, 2 bytes."""
    assert two.run(autocast_bytes) == [(torch.bfloat16, (2 + 2) * C * 2)] * 2


def pass_until_a_rank_stops(group: ProcessGroup, stopping: int, which: int) -> None:
    """Run forward and back; one rank sends itself a signal between the two in step 2."""
    model: nn.Module = build_uneven(UNEVEN)
    spread_experts(model, group)
    for group.step in range(UNEVEN.steps):
        loss = loss_of(model, micro_batches(UNEVEN, group.step)[0])
        if group.rank == stopping and group.step == 2:
            os.kill(os.getpid(), which)
        loss.backward()


@pytest.mark.parametrize("which", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
def test_a_lost_rank_brings_the_others_down(which: int, tmp_path: Path) -> None:
    """Guards: a rank that waits for ever for tokens of one that is gone, and a wall of tracebacks about it:
    the loss is found inside autograd's own thread."""
    ranks = Ranks(2, collective_s=TIMEOUT_S, stderr_dir=tmp_path)
    try:
        ranks.start(pass_until_a_rank_stops, 1, which)
        began = time.monotonic()
        ranks.processes[0].join(AMPLE_S)
        took_s = time.monotonic() - began
        assert ranks.processes[0].exitcode == EXIT_PEER_LOST
    finally:
        ranks.end()
    said = (tmp_path / "0").read_text().splitlines()
    assert len(said) == 1, said
    assert said[0].startswith("rank 0 of 2, step 2: all_to_all failed; ")
    assert "run the same command again" in said[0]
    assert took_s < AMPLE_S
