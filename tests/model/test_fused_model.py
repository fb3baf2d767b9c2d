"""A model with fused_kernels beside the same model without."""

import dataclasses

import pytest
import torch

from gpt.config import from_mapping, to_dict
from gpt.model.config import ModelConfig
from gpt.model.kv_cache import KVCache
from gpt.model.loss import mean_loss
from gpt.model.transformer import Transformer
from tests.model.every_part import make
from tests.tolerances import TOLERANCE

pytest.importorskip("triton", reason="Triton is not installed; on Linux type: make setup")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KERNELS = ("norm", "rope", "swiglu")
IDS = torch.arange(26).view(2, 13)


def gradients(config: ModelConfig, *, compiled: bool = False) -> dict[str, torch.Tensor]:
    """Return the loss and every parameter's gradient."""
    model = make(config).to(DEVICE)
    model.recompute_blocks = not compiled
    forward = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
    ids = IDS.to(DEVICE)
    loss = mean_loss(forward(ids[:, :-1]), ids[:, 1:])
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None} | {
        "loss": loss.detach()
    }


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Return the largest difference, relative to a tensor's largest entry."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max() / b[name].abs().max().clamp(min=1e-3)) for name in a)


@pytest.mark.parametrize("name", KERNELS)
def test_each_trains_as_the_plain_one(name: str, modern: ModelConfig) -> None:
    """With recomputed blocks. Guards: a kernel that is right alone and wired wrongly (gains, the stream
    before and after the addition, up and gate exchanged)."""
    fused = gradients(dataclasses.replace(modern, fused_kernels=(name,)))
    assert apart(fused, gradients(modern)) <= TOLERANCE["fused_model_gradient"]


def test_a_mixture_with_all_of_them(modern: ModelConfig) -> None:
    """Token shift, shared values, no QK-norm, no gains. Guards: a path that only dense models take."""
    config = dataclasses.replace(
        modern, n_experts=4, token_shift=True, value_residual=True, qk_norm=False, norm_gain=False
    )
    fused = gradients(dataclasses.replace(config, fused_kernels=KERNELS))
    assert apart(fused, gradients(config)) <= TOLERANCE["fused_model_gradient"]


def test_one_compiled_graph(modern: ModelConfig) -> None:
    """fullgraph refuses a break. Guards: kernels that the compiler cannot see past."""
    config = dataclasses.replace(modern, n_layers=1, fused_kernels=KERNELS)
    assert apart(gradients(config, compiled=True), gradients(config)) <= TOLERANCE["fused_model_gradient"]


@torch.no_grad()
def test_cached_equals_uncached(modern: ModelConfig) -> None:
    """Guards: positions that begin at 0 behind a cached prefix."""
    model = make(dataclasses.replace(modern, fused_kernels=KERNELS)).to(DEVICE)
    whole = model(IDS.to(DEVICE))
    cache = KVCache(model.config, 2, device=DEVICE)
    pieces = [model(part, cache) for part in IDS.to(DEVICE).split([5, 1, 7], dim=1)]
    assert (torch.cat(pieces, 1) - whole).abs().max() <= TOLERANCE["logits_cached_vs_uncached"]


def test_the_dial_is_read_strictly(modern: ModelConfig, gpt2_mode: ModelConfig) -> None:
    """Guards: a name that nothing fuses, a kernel that the architecture has no use for; the same tensors in a
    checkpoint whichever kernels made it."""
    fused = dataclasses.replace(modern, fused_kernels=KERNELS)
    assert from_mapping(ModelConfig, to_dict(fused), "architecture") == fused
    assert Transformer(fused).state_dict().keys() == Transformer(modern).state_dict().keys()
    with pytest.raises(
        ValueError, match=r"fused_kernels\[0\]: got 'softmax'; choose one of norm, rope, swiglu"
    ):
        from_mapping(ModelConfig, to_dict(modern) | {"fused_kernels": ["softmax"]}, "model")
    for name, message in (
        ("norm", "norm: rmsnorm"),
        ("rope", "position: rope"),
        ("swiglu", "activation: swiglu"),
    ):
        with pytest.raises(ValueError, match=f"fused_kernels: {name} needs {message}, got"):
            dataclasses.replace(gpt2_mode, fused_kernels=(name,))
