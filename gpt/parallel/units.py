"""Which parameters belong to which unit, and what cannot be sharded."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpt.parallel.flat_parameter import FlatParameter, Owner
from gpt.parallel.process_group import ProcessGroup


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Unit:
    """A module that is gathered and freed at once."""

    module: nn.Module
    flats: tuple[FlatParameter, ...]
    """One for each dtype that it computes in."""

    def is_used(self) -> bool:
        """Return whether a graph on its way back needs it: a forward pass now is a recomputation."""
        return any(flat.n_users for flat in self.flats)


def make_units(
    model: nn.Module,
    modules: Sequence[nn.Module],
    group: ProcessGroup,
    compute_dtype: torch.dtype,
    reduce_dtype: torch.dtype,
    fp32_endings: tuple[str, ...],
    local: Collection[nn.Parameter] = (),
) -> list[Unit]:
    """Return the root unit and one for each module, their parameters sharded, their buffers in place.

    `local` are parameters of this rank alone: they stay where they are.
    """
    left_out = {id(parameter) for parameter in local}
    unit_of = {id(part): i for i, module in enumerate(modules, start=1) for part in module.modules()}
    owners: dict[int, dict[str, list[Owner]]] = {i: {} for i in range(len(modules) + 1)}
    names: dict[int, tuple[str, int]] = {}
    for path, module in model.named_modules():
        for attribute, parameter in module._parameters.items():
            if parameter is None or id(parameter) in left_out:
                continue
            unit = unit_of.get(id(module), 0)
            full_name = f"{path}.{attribute}" if path else attribute
            name, first_unit = names.setdefault(id(parameter), (full_name, unit))
            if unit != first_unit:
                raise ValueError(
                    f"{full_name}: tied to {name} of another unit; leave both to the root unit or untie them"
                )
            owners[unit].setdefault(name, []).append((module, attribute))
        for attribute, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[attribute] = buffer.to(group.device)
    units = []
    for module, places in zip([model, *modules], owners.values(), strict=True):
        kept = {name: place for name, place in places.items() if name.endswith(fp32_endings)}
        cast = {name: place for name, place in places.items() if name not in kept}
        units.append(
            Unit(
                module=module,
                flats=tuple(
                    FlatParameter(some, group, compute_dtype=compute, reduce_dtype=reduce)
                    for some, compute, reduce in (
                        (cast, compute_dtype, reduce_dtype),
                        (kept, torch.float32, torch.float32),
                    )
                    if some
                ),
            )
        )
    return units


def check_model(
    model: nn.Module,
    units: Sequence[nn.Module],
    group: ProcessGroup,
    compute_dtype: torch.dtype,
    reduce_dtype: torch.dtype,
    local: Collection[str] = (),
) -> None:
    """Raise ValueError that names what cannot be sharded, and when the ranks hold different weights.

    `local` names parameters of which every rank has its own.
    """
    for name, dtype in (("compute_dtype", compute_dtype), ("reduce_dtype", reduce_dtype)):
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"{name}: got {dtype}; write torch.float32 or torch.bfloat16")
    if not units:
        raise ValueError("units: none given; hand in the model's blocks, in the order of the forward pass")
    paths = {id(module): path for path, module in model.named_modules()}
    seen: set[int] = set()
    for i, unit in enumerate(units):
        if id(unit) not in paths or unit is model:
            raise ValueError(f"units[{i}]: {type(unit).__name__} is no submodule of the model")
        parts = {id(part) for part in unit.modules()}
        if parts & seen:
            raise ValueError(f"units[{i}]: {paths[id(unit)]} is part of another unit, or given twice")
        seen |= parts
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            raise ValueError(f"{name}: is frozen, and several ranks train every parameter here")
        if parameter.dtype != torch.float32:
            raise ValueError(f"{name}: {parameter.dtype}; masters are float32, call model.float()")
    check_equal_weights({n: p for n, p in model.named_parameters() if n not in local}, group)


def check_equal_weights(tensors: Mapping[str, Tensor], group: ProcessGroup) -> None:
    """Raise ValueError, on all ranks, when one of them holds other weights; what is compared are sums."""
    sums = torch.stack([tensor.detach().double().sum() for tensor in tensors.values()]).to(group.device)
    rows = group.gather_rows(sums)  # (W, parameters)
    differs = (rows != rows[0]).any(dim=0).nonzero()
    if len(differs):
        name = list(tensors)[int(differs[0])]
        raise ValueError(f"{name}: the ranks hold different weights; initialize or load the same on each")
