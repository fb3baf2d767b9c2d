"""Dense to mixture of experts: every expert starts as a copy of the parent's feed-forward.

The K routing weights sum to 1 (renormalized), so K equal experts give the parent's output whatever the
router says: the loss after upcycling is the parent's. Source: Komatsuzaki et al. 2022.
"""

import torch
from torch import Tensor

PROJECTIONS = {"gate_proj": "experts_gate", "up_proj": "experts_up", "down_proj": "experts_down"}


def upcycle(tensors: dict[str, Tensor], n_experts: int, router_std: float, seed: int) -> dict[str, Tensor]:
    """Return the mixture's tensors; routers are drawn from normal(0, router_std)."""
    generator = torch.Generator().manual_seed(seed)
    grown = {}
    for name, tensor in sorted(tensors.items()):
        leaf = name.rsplit(".", 2)[-2]
        if leaf not in PROJECTIONS or "feed_forward" not in name:
            grown[name] = tensor
            continue
        prefix = name.rsplit(".", 2)[0]
        grown[f"{prefix}.{PROJECTIONS[leaf]}"] = tensor.repeat(n_experts, 1, 1)  # (E, out, in)
        if leaf == "up_proj":
            router = torch.randn(n_experts, tensor.shape[1], generator=generator) * router_std
            grown[f"{prefix}.router.weight"] = router  # (E, C)
    return grown
