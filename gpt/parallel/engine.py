"""What the training loop needs of whatever divides a model among ranks, and nothing more.

Two calls carry it: `shard` before the first step, and `place`, which says of every tensor which run of
elements this rank holds; checkpoints and resharding follow from that alone (gpt/checkpoint/sharded.py).
One rank has an engine too, which divides nothing and adds no operation.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from gpt.parallel.process_group import ProcessGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a rank's part of a tensor lies in the flattened whole."""

    shape: torch.Size
    """Of the whole."""
    start: int
    stop: int


class Engine(Protocol):
    """How the ranks hold one model."""

    group: ProcessGroup

    def shard(self, model: nn.Module, compute_dtype: torch.dtype) -> None:
        """Divide a model in place; it is called as before, and optimized elementwise.

        Every rank must hold the same weights. Raises ValueError that names what cannot be divided.
        """

    def clip(self, parameters: Sequence[Tensor], max_norm: float) -> float:
        """Clip the gradients' global norm; return it as it was, the same on every rank."""

    def place(self, name: str) -> Place:
        """Return this rank's place of a parameter, and of its moments, by the parameter's name."""

    def local(self, tensor: Tensor) -> Tensor:
        """Return this rank's elements (n,) of a parameter or a moment, sharing its memory."""

    def whole(self, device: torch.device) -> nn.Module | None:
        """Return an undivided model with the weights of now on rank 0, None elsewhere. All ranks call it."""


class WholeModel:
    """One rank, the whole model: the code path without an engine."""

    def __init__(self, group: ProcessGroup) -> None:
        assert group.world_size == 1, "an engine that divides is needed"
        self.group = group
        self._model = nn.Module()
        self._shapes: dict[str, torch.Size] = {}

    def shard(self, model: nn.Module, compute_dtype: torch.dtype) -> None:
        """Leave the model as it is; autocast alone chooses dtypes."""
        self._model = model
        self._shapes = {name: parameter.shape for name, parameter in model.named_parameters()}

    def clip(self, parameters: Sequence[Tensor], max_norm: float) -> float:
        """Clip the gradients' global norm; return it as it was."""
        return float(nn.utils.clip_grad_norm_(parameters, max_norm))

    def place(self, name: str) -> Place:
        """Return the place of all of it."""
        return Place(shape=self._shapes[name], start=0, stop=self._shapes[name].numel())

    def local(self, tensor: Tensor) -> Tensor:
        """Return all elements."""
        return tensor.detach().view(-1)

    def whole(self, device: torch.device) -> nn.Module:
        """Return the model, where it is."""
        return self._model


def units_of(model: nn.Module) -> list[nn.Module]:
    """Return what is gathered and freed at once: the blocks. Raises ValueError for a model without."""
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.ModuleList):
        raise ValueError(f"machine.parallel.ranks: {type(model).__name__} has no blocks to divide; write 1")
    return list(blocks)


def skeleton(model: nn.Module) -> nn.Module:
    """Return a copy whose parameters take no memory; buffers are copied, ties stay ties."""
    empty = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in model.parameters()
    }
    return copy.deepcopy(model, memo=dict(empty))


def fill(bare: nn.Module, tensors: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    """Return a copy of a skeleton with parameters on a device; of a tied one the first name counts."""
    memo: dict[int, object] = {
        id(parameter): nn.Parameter(tensors[name].to(device), requires_grad=parameter.requires_grad)
        for name, parameter in bare.named_parameters()
    }
    memo |= {id(buffer): buffer.detach().to(device) for buffer in bare.buffers()}
    return copy.deepcopy(bare, memo=memo)
