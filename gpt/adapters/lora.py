"""LoRA: y = W x + (alpha / R) B A x, with W frozen (Hu et al. 2021, eq. 3); several of them on one base.

A starts uniform in +-1/sqrt(in) and B at zero, so an adapted model starts as its base, exactly. The model
knows nothing of this: `inject_lora` swaps its linear layers from outside, `merge_lora` folds them back.
Every adapter has a name; which of them act, and how strongly, is switched by gpt/adapters/switch.py.
rsLoRA's scale alpha / sqrt(R): Kalajdzievski 2023.
"""

import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gpt.adapters.config import LoraConfig
from gpt.adapters.frozen import FrozenLinear, dense_linear, frozen_weight
from gpt.adapters.low_rank import low_rank_linear
from gpt.model.dropout import Dropout

NAME = re.compile(r"[A-Za-z0-9_-]+")
"""What an adapter may be called: it is a part of parameter names, where a dot would part it."""
DEFAULT = "default"


class LoraLinear(nn.Module):
    """A frozen linear layer and the low-rank updates that were put on it."""

    def __init__(self, base: FrozenLinear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_a = nn.ParameterDict()  # name -> (R, in)
        self.lora_b = nn.ParameterDict()  # name -> (out, R)
        self.dropouts = nn.ModuleDict()
        self.scales: dict[str, float] = {}
        self.acting: dict[str, float] = {}
        """Adapters that act, each with the weight of its update in the sum."""

    def add(self, name: str, config: LoraConfig, generator: torch.Generator) -> None:
        """Put one more update here; it does nothing before it learns, and is switched on elsewhere."""
        bound = self.base.in_features**-0.5
        a = torch.rand(config.lora_rank, self.base.in_features, generator=generator) * 2 * bound - bound
        device = next(t.device for t in (*self.base.parameters(), *self.base.buffers()))
        self.lora_a[name] = nn.Parameter(a.to(device))
        self.lora_b[name] = nn.Parameter(torch.zeros(self.base.out_features, config.lora_rank, device=device))
        self.dropouts[name] = Dropout(config.dropout)
        self.scales[name] = config.scale

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out)."""
        if not self.acting:
            return self.base(x)
        weight, out = frozen_weight(self.base), None
        for name, share in self.acting.items():
            dropout = self.dropouts[name]
            dropped = dropout(x) if self.training and dropout.p else None
            a, b, scale = self.lora_a[name], self.lora_b[name], share * self.scales[name]
            if out is None:
                out = low_rank_linear(x, weight, self.base.bias, a, b, scale, dropped)
            else:
                update = nn.functional.linear(nn.functional.linear(x if dropped is None else dropped, a), b)
                out = out + scale * update
        assert out is not None
        return out

    @torch.no_grad()
    def delta(self) -> Tensor:
        """Return what the acting adapters add to the weight, float32 (out, in)."""
        parts = [
            share * self.scales[name] * (self.lora_b[name] @ self.lora_a[name])
            for name, share in self.acting.items()
        ]
        return torch.stack(parts).sum(dim=0)


def inject_lora(model: nn.Module, config: LoraConfig, seed: int, name: str = DEFAULT) -> int:
    """Freeze the model, put an adapter on the target projections and let it alone act and learn.

    Adapters that are there already stay, frozen and switched off. Returns how many layers carry the new
    one. Raises ValueError when a target matches no layer, or the name is taken or no name.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"adapter: {name!r} is no name; use letters, digits, - and _")
    if name in adapter_names(model):
        raise ValueError(f"adapter: the name {name!r} is taken; choose another or remove it first")
    homes = {target: _homes(model, target) for target in config.targets}
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for layer in lora_layers(model):
        layer.acting = {}
    for target, places in homes.items():
        for parent, child in places:
            layer = child if isinstance(child, LoraLinear) else LoraLinear(child)
            layer.add(name, config, generator)
            layer.acting = {name: 1.0}
            layer.train(parent.training)
            setattr(parent, target, layer)
    return sum(len(places) for places in homes.values())


def _homes(model: nn.Module, target: str) -> list[tuple[nn.Module, LoraLinear | FrozenLinear]]:
    """Return the layers of this name with the modules that hold them."""
    homes = [
        (parent, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if name == target and isinstance(child, LoraLinear | FrozenLinear)
    ]
    if not homes:
        hint = ""
        if any(hasattr(module, "experts_up") for module in model.modules()):
            hint = "; a mixture's stacked experts carry none: name q_proj, k_proj, v_proj, o_proj, router"
        raise ValueError(f"targets: the model has no linear layer named {target!r}{hint}")
    return homes


def lora_layers(model: nn.Module) -> Iterator[LoraLinear]:
    """Yield the layers that carry adapters."""
    return (module for module in model.modules() if isinstance(module, LoraLinear))


def adapter_names(model: nn.Module) -> list[str]:
    """Return the names of the adapters on a model, in the order in which they came."""
    return list(dict.fromkeys(name for layer in lora_layers(model) for name in layer.scales))


def lora_tensors(model: nn.Module, name: str = DEFAULT) -> dict[str, Tensor]:
    """Return one adapter's own tensors as its file names them: `<layer>.lora_a` and `<layer>.lora_b`."""
    tensors = {}
    for path, module in model.named_modules():
        if isinstance(module, LoraLinear) and name in module.scales:
            tensors[f"{path}.lora_a"] = module.lora_a[name].detach()  # (R, in)
            tensors[f"{path}.lora_b"] = module.lora_b[name].detach()  # (out, R)
    return tensors


@torch.no_grad()
def load_lora(model: nn.Module, tensors: dict[str, Tensor], name: str = DEFAULT) -> None:
    """Copy an adapter's tensors into the one of this name; every name and shape must match."""
    places = lora_tensors(model, name)
    if odd := sorted(places.keys() ^ tensors.keys()):
        raise ValueError(f"adapter: tensor {odd[0]!r} is in the model or in the file, but not in both")
    for key, place in places.items():
        if place.shape != tensors[key].shape:
            raise ValueError(
                f"adapter: tensor {key!r} is {tuple(tensors[key].shape)}, {tuple(place.shape)} is expected"
            )
        place.copy_(tensors[key])


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Fold the acting adapters into their base layers, in place; the others are dropped.

    A packed base becomes fp32: its values as the adapters saw them, rounded by bf16 or NF4, plus the
    update, which is not rounded.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLinear):
                linear = dense_linear(child.base)
                if child.acting:
                    linear.weight += child.delta()
                setattr(parent, name, linear)
            elif isinstance(child, FrozenLinear):
                setattr(parent, name, dense_linear(child))
