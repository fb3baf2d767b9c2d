"""Which experts a rank keeps: rank r of W the r-th E/W of every mixture, and the optimizer's state of them.

A mixture is any module with a `dispatch` to fill, whose parameters named experts_* have a slice an expert.
What else the model holds is another's business: on every rank (expert_replicas.py), or ZeRO-3's (zero3.py).
Not here: how tokens reach the experts (expert_exchange.py).
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from gpt.parallel.expert_exchange import AcrossRanks, InPlace
from gpt.parallel.process_group import ProcessGroup
from gpt.parallel.units import check_equal_weights


def spread_experts(model: nn.Module, group: ProcessGroup) -> None:
    """Keep this rank's E/W experts of every mixture, in place, and send tokens to the other ranks' ones.

    To be done before ZeRO-3, replicas or an optimizer take the model. From then on every rank must run the
    same passes, validation too. Raises ValueError when E does not divide, there is no mixture, it has been
    done, or the ranks hold different weights.
    """
    mixtures = _mixtures(model)
    experts = {path: _experts_of(mixture) for path, mixture in mixtures.items()}
    for path, mixture in mixtures.items():
        if mixture.dispatch is not None:
            raise ValueError(f"{path}: its tokens are dispatched already; spread a model once")
        for name, parameter in experts[path].items():
            if len(parameter) % group.world_size:
                fits = [str(w) for w in range(1, len(parameter) + 1) if len(parameter) % w == 0]
                raise ValueError(
                    f"n_experts: {path}.{name} has {len(parameter)}, which {group.world_size} ranks do not "
                    f"divide; start {', '.join(fits)} ranks, or leave the experts on every rank"
                )
    check_equal_weights({f"{path}.{n}": p for path in experts for n, p in experts[path].items()}, group)
    for path, mixture in mixtures.items():
        for name, parameter in experts[path].items():
            part = parameter.detach().chunk(group.world_size)[group.rank]
            kept = part.to(group.device, copy=True)  # a view would keep all experts alive
            setattr(mixture, name, nn.Parameter(kept, requires_grad=parameter.requires_grad))
        mixture.dispatch = partial(AcrossRanks, group=group)  # type: ignore[assignment]


def balance_over_ranks(model: nn.Module, group: ProcessGroup) -> None:
    """Let every mixture, all of whose experts stay on every rank, balance the load of all ranks' tokens.

    Raises ValueError when there is no mixture, or its tokens are dispatched already.
    """
    for path, mixture in _mixtures(model).items():
        if mixture.dispatch is not None:
            raise ValueError(f"{path}: its tokens are dispatched already; leave out balance_over_ranks")
        mixture.dispatch = partial(InPlace, group=group)


def has_mixture(model: nn.Module) -> bool:
    """Return whether there are experts to spread, or a load to balance."""
    return any("dispatch" in vars(module) for module in model.modules())


class LocalExperts:
    """The experts of a model that this rank has and no other; none when they have not been spread."""

    def __init__(self, model: nn.Module, group: ProcessGroup) -> None:
        self.group = group
        spread = {path: module for path, module in model.named_modules() if _is_spread(module)}
        self.parameters = {
            f"{path}.{name}": p for path, module in spread.items() for name, p in _experts_of(module).items()
        }
        """By the model's own names, (E/W, out, in)."""

    def join(self, parts: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return all ranks' experts whole (E, out, in), on rank 0, on the CPU; {} elsewhere.

        With `parts`, what lies like this rank's experts: an optimizer's moments; those not in it are left
        out. All ranks must call it.
        """
        full: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            part = parameter.detach() if parts is None else parts.get(name)
            if part is None:
                continue
            whole = part.new_empty(self.group.world_size * part.numel())
            self.group.all_gather(whole, part.flatten(), name="join").wait()
            if self.group.rank == 0:
                full[name] = whole.view(-1, *part.shape[1:]).to("cpu", copy=True)
        return full

    def cut(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this rank's part (E/W, out, in) of whole experts; the other way round of join.

        Raises ValueError for a tensor that is missing or misshapen.
        """
        cut = {}
        for name, parameter in self.parameters.items():
            if name not in tensors:
                raise ValueError(f"tensor {name!r} is in the model, but not in what is loaded")
            shape = (self.group.world_size * len(parameter), *parameter.shape[1:])
            if tensors[name].shape != shape:
                raise ValueError(f"{name}: shape {tuple(tensors[name].shape)}, {shape} is needed")
            cut[name] = tensors[name].chunk(self.group.world_size)[self.group.rank]
        return cut

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take this rank's experts out of whole ones."""
        for name, part in self.cut(tensors).items():
            self.parameters[name].copy_(part)


def _mixtures(model: nn.Module) -> dict[str, nn.Module]:
    found = {path: module for path, module in model.named_modules() if "dispatch" in vars(module)}
    if not found:
        raise ValueError("n_experts: the model has no mixture of experts; write 2 or more")
    return found


def _experts_of(mixture: nn.Module) -> dict[str, nn.Parameter]:
    """Return what a mixture holds once for each expert."""
    own = mixture.named_parameters(recurse=False)
    return {name: parameter for name, parameter in own if name.startswith("experts_")}


def _is_spread(module: nn.Module) -> bool:
    dispatch = vars(module).get("dispatch")
    return isinstance(dispatch, partial) and dispatch.func is AcrossRanks
