"""Tokens on their way to the experts of other ranks and back: two all-to-alls, and autograd through them.

    counts   (E,) of each rank, gathered on all: the splits of what follows, and the load over all ranks
    there    every assignment's row (C,) to the rank of its expert; rows from W ranks, sorted by expert
    back     the experts' outputs to the ranks that the rows came from, in their order

The way back of `there` is `back` with gradients, and the other way round. No row is dropped and none is
padded, so the splits differ from pass to pass and must be known on the host: a GPU waits for the counts once
a layer. An expert sees its rows in the order of one process that has the ranks' batches end to end.
Not here: which experts a rank keeps (expert_spread.py). Source: Lepikhin et al. 2020 (GShard), section 3.2.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from gpt.parallel.process_group import ProcessGroup

Experts = Callable[[Tensor, Tensor], Tensor]
"""Rows (R, C) that lie expert by expert and how many each expert has, to the experts' outputs (R, C)."""


def counts_of_ranks(counts: Tensor, group: ProcessGroup) -> Tensor:
    """Return every rank's counts (E,) as (W, E). Waits."""
    whole = counts.new_empty(group.world_size * len(counts))
    return group.all_gather(whole, counts, name="expert_counts").wait().view(group.world_size, -1)


class AcrossRanks:
    """The exchange of one pass when rank r keeps the experts r E/W .. (r + 1) E/W - 1."""

    def __init__(self, counts: Tensor, group: ProcessGroup) -> None:
        self.group = group
        of_ranks = counts_of_ranks(counts, group)  # (W, E)
        self.counts = of_ranks.sum(0)  # (E,)
        here = of_ranks.view(group.world_size, group.world_size, -1)[:, group.rank]  # (W, E/W)
        self.counts_here = here.sum(0)  # (E/W,)
        splits = torch.stack((counts.view(group.world_size, -1).sum(1), here.sum(1)))  # (2, W)
        self.sent, self.received = splits.tolist()
        n_here = here.shape[1]
        expert_of = torch.arange(n_here, device=counts.device).repeat(group.world_size)  # (W * E/W,)
        expert_of = expert_of.repeat_interleave(here.flatten(), output_size=sum(self.received))  # (R,)
        self.order = expert_of.argsort(stable=True)  # (R,)
        self.inverse = self.order.argsort()  # (R,)

    def run(self, experts: Experts, x: Tensor) -> Tensor:
        """Return what x (N*K, C), this rank's rows expert by expert, becomes in their experts, (N*K, C)."""
        if torch.is_autocast_enabled(x.device.type):  # the experts would cast it: fewer bytes on the way
            x = x.to(torch.get_autocast_dtype(x.device.type))
        arrived = _There.apply(x, self)  # (R, C)
        return _Back.apply(experts(arrived, self.counts_here), self)

    def there(self, rows: Tensor) -> Tensor:
        """Take rows (N*K, C) to their experts; return what arrived here (R, C), expert by expert."""
        return self.group.all_to_all(rows, self.sent, self.received).wait()[self.order]

    def back(self, rows: Tensor) -> Tensor:
        """Take rows (R, C) back to where they came from; return this rank's own (N*K, C)."""
        return self.group.all_to_all(rows[self.inverse], self.received, self.sent).wait()


class _There(Function):
    """To the experts. Their side works with the mean of the ranks' losses, a token's with its rank's own."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, exchange: AcrossRanks) -> Tensor:
        ctx.exchange = exchange
        return exchange.there(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.exchange.back(gradient) * ctx.exchange.group.world_size, None


class _Back(Function):
    """From the experts; on the way back the gradient is divided by W, so that theirs is that of the mean."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, exchange: AcrossRanks) -> Tensor:
        ctx.exchange = exchange
        return exchange.back(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.exchange.there(gradient / ctx.exchange.group.world_size), None


class InPlace:
    """The exchange of one pass when every rank has all experts: only the load is that of all ranks."""

    def __init__(self, counts: Tensor, group: ProcessGroup) -> None:
        self.own = counts
        self.counts = counts_of_ranks(counts, group).sum(0)  # (E,)

    def run(self, experts: Experts, x: Tensor) -> Tensor:
        """Return what x (N*K, C), rows expert by expert, becomes in its experts, (N*K, C)."""
        return experts(x, self.own)
