"""More blocks: each new block is the identity, because its two outputs start at zero.

Source: Net2DeeperNet (Chen et al. 2015) by way of zero-output residual blocks (Bachlechner et al. 2020).
The loss after growth is the parent's, exactly.
"""

import torch
from torch import Tensor

VALUE_MIX = "attention.value_mix"
OUTPUTS = ("attention.o_proj.weight", "feed_forward.down_proj.weight")


def deepen(tensors: dict[str, Tensor], old_layers: int, new_layers: int) -> dict[str, Tensor]:
    """Insert copies of existing blocks, evenly spread, with zero outputs; tensors by parameter name."""
    assert new_layers >= old_layers, (old_layers, new_layers)
    grown = {name: t for name, t in tensors.items() if not name.startswith("blocks.")}
    order = block_order(old_layers, new_layers)
    for position, (source, is_new) in enumerate(order):
        prefix = f"blocks.{source}."
        for name, tensor in tensors.items():
            if name.startswith(prefix):
                rest = name.removeprefix(prefix)
                zero = is_new and (rest in OUTPUTS or rest in _biases())
                grown[f"blocks.{position}.{rest}"] = torch.zeros_like(tensor) if zero else tensor.clone()
    if any(name.endswith(VALUE_MIX) for name in tensors):  # the first block has none to copy
        for position in range(1, new_layers):
            grown.setdefault(f"blocks.{position}.{VALUE_MIX}", torch.zeros(1))
    return grown


def block_order(old_layers: int, new_layers: int) -> list[tuple[int, bool]]:
    """Return for each new position the block it copies, and whether it is a new (zero-output) one.

    >>> block_order(2, 3)
    [(0, False), (0, True), (1, False)]
    """
    copies = [new_layers // old_layers + (i < new_layers % old_layers) for i in range(old_layers)]
    return [(i, k > 0) for i, n in enumerate(copies) for k in range(n)]


def _biases() -> tuple[str, ...]:
    return tuple(name.replace(".weight", ".bias") for name in OUTPUTS)
