"""PyTorch's FSDP2 (`fully_shard`) behind the engine's calls: the engine for clusters of GPUs.

It cuts every parameter by rows, so that a rank's part is a run of elements here too. Same units as ours, and
the same two are not freed between forward and backward: the root and the last block.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from gpt.parallel.engine import Place, fill, skeleton, units_of
from gpt.parallel.expert_spread import balance_over_ranks, has_mixture
from gpt.parallel.process_group import ProcessGroup
from gpt.parallel.units import check_model
from gpt.parallel.zero3_engine import FP32_ENDINGS


class Fsdp2Engine:
    """Every rank keeps some rows of every parameter."""

    def __init__(self, group: ProcessGroup) -> None:
        self.group = group
        self._model = self._bare = nn.Module()
        self._places: dict[str, Place] = {}

    def shard(self, model: nn.Module, compute_dtype: torch.dtype) -> None:
        """Divide the model's blocks, and the rest as one unit. Raises ValueError."""
        units = units_of(model)
        check_model(model, units, self.group, compute_dtype, torch.float32)
        self._model, self._bare = model, skeleton(model)
        if has_mixture(model):
            balance_over_ranks(model, self.group)
        mesh = init_device_mesh(self.group.device.type, (self.group.world_size,))
        policy = MixedPrecisionPolicy(param_dtype=compute_dtype, reduce_dtype=torch.float32)
        exact = MixedPrecisionPolicy(param_dtype=torch.float32, reduce_dtype=torch.float32)
        for name, module in model.named_modules():
            if f"{name}.weight".endswith(FP32_ENDINGS):
                fully_shard(module, mesh=mesh, mp_policy=exact)
        for unit in units:
            fully_shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=unit is not units[-1])
        fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
        model.register_forward_hook(partial(_end_validation, units[-1]))
        self._places = {name: self._rows(name, p) for name, p in model.named_parameters()}

    def clip(self, parameters: Sequence[Tensor], max_norm: float) -> float:
        """Clip the gradients' global norm; return it as it was."""
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
        return float(norm)

    def place(self, name: str) -> Place:
        """Return this rank's rows of a parameter; none where it has fewer rows than there are ranks."""
        return self._places[name]

    def local(self, tensor: Tensor) -> Tensor:
        """Return this rank's rows as a vector (n,)."""
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        return local.detach().view(-1)

    def whole(self, device: torch.device) -> nn.Module | None:
        """Return the undivided model on rank 0."""
        tensors = {}
        for name, parameter in self._model.named_parameters():
            assert isinstance(parameter, DTensor), name
            full = parameter.full_tensor().detach()
            if self.group.rank == 0:
                tensors[name] = full.cpu()
        return None if self.group.rank else fill(self._bare, tensors, device)

    def _rows(self, name: str, parameter: nn.Parameter) -> Place:
        assert isinstance(parameter, DTensor), name
        rows, size = parameter.shape[0], parameter.shape[1:].numel()
        each = -(-rows // self.group.world_size)  # torch.chunk's rule: all alike but the last ones
        first, last = (min(rows, (self.group.rank + i) * each) for i in (0, 1))
        assert parameter.to_local().numel() == (last - first) * size, name
        return Place(shape=parameter.shape, start=first * size, stop=last * size)


def _end_validation(last: nn.Module, model: nn.Module, *_: object) -> None:
    """Free what was kept for a way back, after a pass that has none: a save must find shards."""
    if not torch.is_grad_enabled():
        for module in (last, model):
            assert isinstance(module, FSDPModule)
            module.reshard()
