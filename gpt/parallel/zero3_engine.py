"""Our ZeRO-3 behind the engine's calls. What it does: zero3.py."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gpt.parallel.engine import Place, fill, skeleton, units_of
from gpt.parallel.expert_spread import balance_over_ranks, has_mixture, spread_experts
from gpt.parallel.process_group import ProcessGroup
from gpt.parallel.zero3 import Zero3, shard_zero3

FP32_ENDINGS = ("router.weight",)
"""Gathered and reduced in fp32 whatever the dtype: near ties of a mixture's router must not flip."""


class Zero3Engine:
    """Every rank keeps a run of elements of every unit, or of a mixture whole experts."""

    zero3: Zero3

    def __init__(self, group: ProcessGroup, experts: Literal["gathered", "across"] = "gathered") -> None:
        self.group, self.experts = group, experts
        self._bare = nn.Module()
        self._places: dict[str, Place] = {}

    def shard(self, model: nn.Module, compute_dtype: torch.dtype) -> None:
        """Divide the model's blocks, and the rest as one unit. Raises ValueError."""
        units, self._bare = units_of(model), skeleton(model)
        if has_mixture(model):
            (spread_experts if self.experts == "across" else balance_over_ranks)(model, self.group)
        self.zero3 = shard_zero3(
            model, units, self.group, compute_dtype=compute_dtype, fp32_endings=FP32_ENDINGS
        )
        self._places = {
            slot.name: Place(shape=slot.shape, start=slot.there.start, stop=slot.there.stop)
            for flat in self.zero3.flats
            for slot in flat.slots
        }
        for name, part in self.zero3.experts.parameters.items():
            shape = torch.Size((self.group.world_size * len(part), *part.shape[1:]))
            start = self.group.rank * part.numel()
            self._places[name] = Place(shape=shape, start=start, stop=start + part.numel())

    def clip(self, parameters: Sequence[Tensor], max_norm: float) -> float:
        """Clip the gradients' global norm; return it as it was. Raises ValueError."""
        return float(self.zero3.clip_grad_norm(max_norm))

    def place(self, name: str) -> Place:
        """Return this rank's place of a parameter; an empty one where other ranks have it all."""
        return self._places[name]

    def local(self, tensor: Tensor) -> Tensor:
        """Return the piece as a vector (n,)."""
        return tensor.detach().view(-1)

    def whole(self, device: torch.device) -> nn.Module | None:
        """Return the undivided model on rank 0."""
        tensors = self.zero3.full_tensors()
        return None if self.group.rank else fill(self._bare, tensors, device)
