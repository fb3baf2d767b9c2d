"""grow: parent -> bigger model, in the order depth, width, experts."""

import dataclasses

from torch import Tensor

from gpt.growth.config import GrowthConfig
from gpt.growth.deepen import deepen
from gpt.growth.upcycle import upcycle
from gpt.growth.widen import check_shapes, widen
from gpt.model.config import ModelConfig


def grown_architecture(parent: ModelConfig, growth: GrowthConfig) -> ModelConfig:
    """Return the architecture after growth."""
    return dataclasses.replace(
        parent,
        n_layers=growth.n_layers,
        dim=growth.dim,
        n_heads=growth.n_heads,
        n_kv_heads=growth.n_kv_heads,
        ffn_dim=growth.ffn_dim,
        n_experts=growth.n_experts,
        n_experts_per_token=growth.n_experts_per_token,
    )


def grow(
    tensors: dict[str, Tensor], parent: ModelConfig, growth: GrowthConfig
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the grown architecture and its tensors; the parent's tensors are left as they are."""
    if parent.n_experts:
        raise ValueError("n_experts: the parent is a mixture already; grow a dense model")
    target = grown_architecture(parent, growth)
    check_shapes(parent, target)
    tensors = deepen(tensors, parent.n_layers, growth.n_layers)
    deeper = dataclasses.replace(parent, n_layers=growth.n_layers)
    if dataclasses.replace(target, n_experts=0) != deeper:
        tensors = widen(tensors, deeper, target, growth.seed)
    if growth.n_experts:
        tensors = upcycle(tensors, growth.n_experts, growth.router_std, growth.seed)
    return target, tensors
