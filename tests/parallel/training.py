"""What the ranks of tests/parallel run: a few training steps of a tiny model, sharded or not."""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.loss import mean_loss
from gpt.model.moe import router_losses
from gpt.model.transformer import Transformer
from gpt.parallel.process_group import ProcessGroup, rank_seed
from gpt.parallel.zero3 import Zero3, shard_zero3

VOCAB = 331
ODD = ModelConfig(
    vocab_size=VOCAB, max_seq_len=16, dim=36, n_layers=3, n_heads=3, n_kv_heads=1, ffn_dim=50, qk_norm=True
)
"""Tied; none of its sizes is a multiple of 16, nor of 2 or 4 times it."""
MIXTURE = replace(ODD, n_experts=4)
EVERY_DIAL = replace(ODD, dropout=0.1, value_residual=True, token_shift=True, bigram_rows=50)
LARGE = ModelConfig(
    vocab_size=VOCAB, max_seq_len=16, dim=192, n_layers=4, n_heads=4, n_kv_heads=4, ffn_dim=768, qk_norm=True
)
"""Large enough that neither padding nor activations count."""
ROUTER = ("router.weight",)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training run."""

    model: ModelConfig = ODD
    steps: int = 10
    samples: int = 4
    """Of one micro batch, all ranks together."""
    accumulation: int = 2
    max_norm: float = 0.25
    recompute: bool = False
    compute_dtype: torch.dtype = torch.float32
    reduce_dtype: torch.dtype = torch.float32
    prefetch: int = 1
    has_unused: bool = False
    """The model holds a parameter, in a block and in the root, that no forward pass uses."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run showed."""

    losses: list[float]
    norms: list[float]
    tensors: dict[str, Tensor]
    bytes_moved: dict[str, int]


def build(case: Case) -> Transformer:
    """Return the case's model, the same weights on every rank."""
    model = Transformer(case.model)
    init_weights(model, 0)
    model.recompute_blocks = case.recompute
    if case.has_unused:
        model.register_parameter("unused", nn.Parameter(torch.ones(40)))
        model.blocks[1].register_parameter("unused", nn.Parameter(torch.ones(40)))
    return model


def shard(model: Transformer, group: ProcessGroup, case: Case) -> Zero3:
    return shard_zero3(
        model,
        list(model.blocks),
        group,
        compute_dtype=case.compute_dtype,
        reduce_dtype=case.reduce_dtype,
        prefetch=case.prefetch,
        fp32_endings=ROUTER,
    )


def loss_of(model: Transformer, token_ids: Tensor) -> Tensor:
    """Return the next-token loss, with a mixture's balance loss, which leaves no block by its output."""
    loss = mean_loss(model(token_ids[:, :-1]), token_ids[:, 1:])
    return loss + 0.05 * router_losses(model)[0] if model.config.n_experts else loss


def micro_batches(case: Case, step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    shape = (case.samples, 13)
    return [torch.randint(0, VOCAB, shape, generator=generator) for _ in range(case.accumulation)]


def train(group: ProcessGroup, case: Case) -> Run:
    """Train sharded; each rank takes its share of every micro batch."""
    zero3 = shard(build(case), group, case)
    group.bytes_moved.clear()
    optimizer = torch.optim.AdamW(zero3.parameters(), lr=0.01, fused=True)
    losses, norms = [], []
    for step in range(case.steps):
        group.step = step
        torch.manual_seed(rank_seed(7, step, group.rank))
        total = torch.zeros(())
        for batch in micro_batches(case, step):
            loss = loss_of(zero3.module, batch.chunk(group.world_size)[group.rank])  # type: ignore[arg-type]
            (loss / case.accumulation).backward()
            total += loss.detach() / case.accumulation
        norms.append(float(zero3.clip_grad_norm(case.max_norm)))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(group.mean(total)))
    return Run(losses=losses, norms=norms, tensors=zero3.full_tensors(), bytes_moved=dict(group.bytes_moved))


def reference(case: Case, world_size: int) -> Run:
    """Train the whole model in one process, the ranks' shares one after the other.

    Nothing of gpt.parallel is in it but the ranks' seeds. With a compute dtype other than fp32 a copy of the
    model in it makes the gradients; routers stay fp32.
    """
    model = build(case)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    losses, norms = [], []
    for step in range(case.steps):
        total = 0.0
        for rank in range(world_size):
            torch.manual_seed(rank_seed(7, step, rank))
            for batch in micro_batches(case, step):
                share = 1 / (world_size * case.accumulation)
                loss = add_gradients(model, case, batch.chunk(world_size)[rank], share)
                total += loss * share
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), case.max_norm)))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return Run(losses=losses, norms=norms, tensors=tensors, bytes_moved={})


def add_gradients(model: Transformer, case: Case, batch: Tensor, share: float) -> float:
    """Add a share of the batch's gradient to the fp32 model's; return the loss."""
    worker = model
    if case.compute_dtype != torch.float32:
        worker = copy.deepcopy(model)
        worker.zero_grad()
        for name, parameter in worker.named_parameters():
            if not name.endswith(ROUTER):
                parameter.data = parameter.data.to(case.compute_dtype)
    loss = loss_of(worker, batch)
    (loss * share).backward()
    if worker is not model:
        for master, parameter in zip(model.parameters(), worker.parameters(), strict=True):
            if parameter.grad is not None:
                part = parameter.grad.float()
                master.grad = part if master.grad is None else master.grad + part
    return float(loss.detach())


def gap(run: Run, expected: Run) -> tuple[float, float]:
    """Return the largest difference of losses and gradient norms, and of weights."""
    numbers = [*run.losses, *run.norms], [*expected.losses, *expected.norms]
    assert len(numbers[0]) == len(numbers[1])
    assert set(run.tensors) == set(expected.tensors)
    return (
        max(abs(a - b) for a, b in zip(*numbers, strict=True)),
        max(float((run.tensors[name] - t).abs().max()) for name, t in expected.tensors.items()),
    )
