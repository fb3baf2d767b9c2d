"""A wider residual stream, more heads, a wider feed-forward.

The parent's function is kept exactly under RMSNorm: new residual channels are zero everywhere (their
embeddings and every matrix row that writes to them start at zero), so the parent's channels compute what
they did. RMSNorm divides by the root mean square over all channels: with C' channels of which C are live
it is sqrt(C / C') of the parent's, so gains are scaled by sqrt(C / C'), and eps by C / C' in effect (a
difference of order eps). LayerNorm also subtracts the mean over C' channels: its step changes the function,
and the stage states the jump. New heads and hidden units have random inputs and zero outputs.
Source: Net2Net (Chen et al. 2015), LEMON (Wang et al. 2023).
"""

import torch
from torch import Tensor

from gpt.model.config import ModelConfig


def widen(tensors: dict[str, Tensor], old: ModelConfig, new: ModelConfig, seed: int) -> dict[str, Tensor]:
    """Return the tensors of the wider model (same depth, dense); raises ValueError where it cannot be."""
    check_shapes(old, new)
    generator = torch.Generator().manual_seed(seed)
    gain = (old.dim / new.dim) ** 0.5 if new.norm == "rmsnorm" else 1.0
    grown = {}
    for name, tensor in sorted(tensors.items()):
        target = torch.zeros(_shape(name, tensor, old, new))
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            target.copy_(tensor)
        elif "norm." in name:
            if name.endswith("weight"):
                target.fill_(1.0)
            target[: old.dim] = tensor * gain
        elif tensor.ndim == 1:
            target[: len(tensor)] = tensor  # a new channel is zero, whatever its token shift's share
        else:
            _fill_new_inputs(name, target, tensor, old, new, generator)
            target[: tensor.shape[0], : tensor.shape[1]] = tensor
        grown[name] = target
    return grown


def check_shapes(old: ModelConfig, new: ModelConfig) -> None:
    """Raise ValueError for a target that cannot contain its parent."""
    if new.dim > old.dim and not old.norm_gain:
        raise ValueError("norm_gain: widening scales the norms' gains and the parent has none; keep its dim")
    for name in ("dim", "n_heads", "n_kv_heads", "ffn_dim", "n_layers"):
        if getattr(new, name) < getattr(old, name):
            raise ValueError(f"{name}: {getattr(new, name)} is below the parent's {getattr(old, name)}")
    if new.head_dim != old.head_dim:
        raise ValueError(
            f"n_heads: growth keeps the head dim {old.head_dim}; with dim {new.dim} write "
            f"n_heads {new.dim // old.head_dim}"
        )
    if new.n_heads // new.n_kv_heads != old.n_heads // old.n_kv_heads:
        raise ValueError(
            f"n_kv_heads: growth keeps {old.n_heads // old.n_kv_heads} query heads per kv head; "
            f"write n_kv_heads {new.n_heads * old.n_kv_heads // old.n_heads}"
        )


def _fill_new_inputs(
    name: str, target: Tensor, tensor: Tensor, old: ModelConfig, new: ModelConfig, generator: torch.Generator
) -> None:
    """Give new rows of q, k, v, gate and up random weights; outputs of new units stay zero."""
    if name.endswith(
        ("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")
    ):
        rows = target.shape[0] - tensor.shape[0]
        std = float(tensor.std())
        target[tensor.shape[0] :] = torch.randn(rows, target.shape[1], generator=generator) * std


def _shape(name: str, tensor: Tensor, old: ModelConfig, new: ModelConfig) -> tuple[int, ...]:
    """Map each axis of a parent's tensor by its meaning."""
    c = (old.dim, new.dim)
    q = (old.n_heads * old.head_dim, new.n_heads * new.head_dim)
    kv = (old.n_kv_heads * old.head_dim, new.n_kv_heads * new.head_dim)
    f = (old.ffn_dim, new.ffn_dim)
    leaf = name.rsplit(".", 2)[-2]
    out_in = {
        "q_proj": (q, c),
        "k_proj": (kv, c),
        "v_proj": (kv, c),
        "o_proj": (c, q),
        "gate_proj": (f, c),
        "up_proj": (f, c),
        "down_proj": (c, f),
    }
    if leaf in out_in:
        axes = out_in[leaf] if tensor.ndim == 2 else out_in[leaf][:1]
        assert tuple(tensor.shape) == tuple(axis[0] for axis in axes), (name, tensor.shape)
        return tuple(axis[1] for axis in axes)
    if leaf in ("q_norm", "k_norm") or name.endswith("value_mix"):
        return tuple(tensor.shape)
    if leaf.endswith("_shift"):
        return (new.dim,)
    if leaf in ("embed", "position", "lm_head", "table"):
        return (tensor.shape[0], new.dim)
    assert "norm" in leaf, name
    return (new.dim,)
