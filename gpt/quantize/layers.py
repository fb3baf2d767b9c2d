"""Which linears of a transformer are quantized, and how one is swapped for another module.

All projections of attention and of a dense feed-forward. Embeddings, norms and an untied output projection
stay float32.
"""

from torch import nn

from gpt.model.transformer import Transformer

INPUT_GROUPS = (
    ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    ("attention.o_proj",),
    ("feed_forward.gate_proj", "feed_forward.up_proj"),
    ("feed_forward.down_proj",),
)
"""Linears of a block in the order of the forward pass; those of one group read the same input."""


def input_groups(model: Transformer, block: int) -> list[list[str]]:
    """Return the full names of one block's linears, grouped by the input they share.

    Raises ValueError for a mixture of experts, which has stacked experts instead of linears.
    """
    if model.config.n_experts:
        raise ValueError(
            f"architecture.n_experts: the parent is a mixture of {model.config.n_experts} experts and "
            "quantize takes a dense model; point --checkpoint at a dense one"
        )
    present = dict(model.blocks[block].named_modules())
    groups = [[f"blocks.{block}.{name}" for name in group if name in present] for group in INPUT_GROUPS]
    return [group for group in groups if group]


def quantizable(model: Transformer) -> list[str]:
    """Return the names of all linears that are quantized, in the order of the forward pass."""
    blocks = range(model.config.n_layers)
    return [name for block in blocks for group in input_groups(model, block) for name in group]


def check_group_size(model: Transformer, group_size: int) -> None:
    """Raise ValueError that names the dial when a group size does not divide a linear's inputs."""
    for name in quantizable(model):
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear), name
        n = linear.in_features
        if n % group_size:
            divisors = ", ".join(str(d) for d in (16, 32, 48, 64, 96, 128, 256) if n % d == 0)
            raise ValueError(
                f"quantize.group_size: {group_size} does not divide the {n} inputs of {name}; "
                f"it could be {divisors or n}"
            )


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the dotted name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
