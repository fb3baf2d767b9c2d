"""Which adapters act: switched, summed with weights, or none at all, which leaves the base.

    with acting(model, "hinglish"): ...                     one request's adapter
    with acting(model, {"hinglish": 0.7, "polite": 0.3}): ...   the sum of two updates
    with base_alone(model): ...                             a reference model at no cost of memory

Only what acts changes: nothing here freezes or thaws a parameter. Not for two threads at once on one model:
the server runs one request at a time.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from torch import nn

from gpt.adapters.lora import adapter_names, lora_layers

Mix = str | Mapping[str, float]


def use_adapters(model: nn.Module, mix: Mix) -> None:
    """Let these adapters act and no other; a mapping gives each one's weight, with an empty one none acts.

    Raises ValueError for a name that the model does not carry.
    """
    shares = {mix: 1.0} if isinstance(mix, str) else dict(mix)
    known = adapter_names(model)
    for name in shares:
        if name not in known:
            raise ValueError(f"adapter: got {name!r}; the model carries {', '.join(known) or 'none'}")
    for layer in lora_layers(model):
        layer.acting = {name: share for name, share in shares.items() if name in layer.scales}


@contextmanager
def acting(model: nn.Module, mix: Mix) -> Iterator[None]:
    """Let these adapters act inside the block; afterwards those that acted before."""
    before = [(layer, layer.acting) for layer in lora_layers(model)]
    use_adapters(model, mix)
    try:
        yield
    finally:
        for layer, shares in before:
            layer.acting = shares


def base_alone(model: nn.Module) -> AbstractContextManager[None]:
    """Switch all adapters off inside the block."""
    return acting(model, {})


def remove_adapter(model: nn.Module, name: str) -> None:
    """Take an adapter off a model; the layers stay adapted layers, with what is left on them."""
    if name not in adapter_names(model):
        raise ValueError(
            f"adapter: got {name!r}; the model carries {', '.join(adapter_names(model)) or 'none'}"
        )
    for layer in lora_layers(model):
        if name in layer.scales:
            del layer.lora_a[name], layer.lora_b[name], layer.dropouts[name], layer.scales[name]
            layer.acting = {other: share for other, share in layer.acting.items() if other != name}
