"""What the ranks of the expert tests run: training steps of a tiny mixture, its experts spread or not."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gpt.model.loss import mean_loss
from gpt.model.moe import MixtureOfExperts, router_losses
from gpt.model.transformer import Transformer
from gpt.parallel.expert_replicas import Replicas
from gpt.parallel.expert_spread import balance_over_ranks, spread_experts
from gpt.parallel.process_group import ProcessGroup
from gpt.parallel.zero3 import Zero3
from tests.parallel.training import MIXTURE, Case, Run, build, micro_batches, shard

LOUD = 4.0
"""Channel 0 of every embedding: what a router that looks at it alone cannot overlook."""
UNEVEN = Case(model=replace(MIXTURE, n_layers=4), samples=8, steps=8)


@dataclass(frozen=True, kw_only=True)
class ExpertRun(Run):
    """What a run showed, and how its experts were used."""

    loads: Tensor
    """Share of the assignments that each expert got, of all ranks, (passes, L, E)."""
    n_left: int
    """Assignments of this rank's tokens to experts of other ranks, layer by layer, in the forward passes."""


def build_uneven(case: Case) -> Transformer:
    """Return a model whose first block sends all tokens to experts 0 and 1, its second none to the last.

    The other blocks' routers look at what tells tokens apart, and know their minds.
    """
    model = build(case)
    with torch.no_grad():
        model.embed.weight *= 20
        model.embed.weight[:, 0] = LOUD
        first, second, *others = (mixture.router.weight for mixture in mixtures(model))
        first.zero_()
        first[:, 0] = torch.tensor([9.0, 8.0, 0.0, 0.0])
        for router in (second, *others):
            router *= 20
            router[:, 0] = 0.0
        second[-1, 0] = -30.0
    return model


def mixtures(model: nn.Module) -> list[MixtureOfExperts]:
    return [module for module in model.modules() if isinstance(module, MixtureOfExperts)]


def loss_of(model: nn.Module, token_ids: Tensor) -> Tensor:
    """Return the next-token loss with both losses of the routers."""
    loss = mean_loss(model(token_ids[:, :-1]), token_ids[:, 1:])
    balance, z = router_losses(model)
    return loss + 0.05 * balance + 0.01 * z


def spread_and_replicate(group: ProcessGroup, case: Case, model: Transformer) -> Replicas:
    spread_experts(model, group)
    return Replicas(model, group)


def spread_and_shard(group: ProcessGroup, case: Case, model: Transformer) -> Zero3:
    spread_experts(model, group)
    return shard(model, group, case)


def replicate(group: ProcessGroup, case: Case, model: Transformer) -> Replicas:
    balance_over_ranks(model, group)
    return Replicas(model, group)


def shard_all(group: ProcessGroup, case: Case, model: Transformer) -> Zero3:
    balance_over_ranks(model, group)
    return shard(model, group, case)


Engine = Callable[[ProcessGroup, Case, Transformer], Replicas | Zero3]


def train(group: ProcessGroup, case: Case, engine: Engine) -> ExpertRun:
    """Train over ranks; each takes its share of every micro batch."""
    model = build_uneven(case)
    n_left = 0

    def count(mixture: MixtureOfExperts, router: nn.Module, inputs: object, logits: Tensor) -> None:
        nonlocal n_left
        if torch.is_grad_enabled():
            owners = logits.topk(mixture.config.n_experts_per_token).indices // (4 // group.world_size)
            n_left += int((owners != group.rank).sum())

    for mixture in mixtures(model):
        mixture.router.register_forward_hook(lambda *call, m=mixture: count(m, *call))
    trained = engine(group, case, model)
    group.bytes_moved.clear()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=0.01, fused=True)
    losses, norms, loads = [], [], []
    for group.step in range(case.steps):
        total = torch.zeros(())
        for batch in micro_batches(case, group.step):
            loss = loss_of(trained.module, batch.chunk(group.world_size)[group.rank])
            (loss / case.accumulation).backward()
            total += loss.detach() / case.accumulation
            loads.append(torch.stack([m.expert_load for m in mixtures(trained.module)]))  # type: ignore[misc]
        if isinstance(trained, Replicas):
            trained.average_gradients()
        norms.append(float(trained.clip_grad_norm(case.max_norm)))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(group.mean(total)))
    return ExpertRun(
        losses=losses,
        norms=norms,
        tensors=trained.full_tensors(),
        bytes_moved=dict(group.bytes_moved),
        loads=torch.stack(loads),
        n_left=n_left,
    )


def reference(case: Case) -> ExpertRun:
    """Train the whole model on the whole micro batches in one process. Nothing of gpt.parallel is in it."""
    model = build_uneven(case)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    losses, norms, loads = [], [], []
    for step in range(case.steps):
        total = 0.0
        for batch in micro_batches(case, step):
            loss = loss_of(model, batch) / case.accumulation
            loss.backward()
            total += float(loss.detach())
            loads.append(torch.stack([m.expert_load for m in mixtures(model)]))  # type: ignore[misc]
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), case.max_norm)))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return ExpertRun(
        losses=losses,
        norms=norms,
        tensors={name: parameter.detach() for name, parameter in model.named_parameters()},
        bytes_moved={},
        loads=torch.stack(loads),
        n_left=0,
    )
