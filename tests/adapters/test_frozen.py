"""A base in bf16 or NF4 under adapters: what it computes, what it keeps, what merging makes of it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gpt.adapters.config import BasePrecision
from gpt.adapters.frozen import Bf16Linear, Nf4Linear, pack_base
from gpt.adapters.lora import LoraLinear, inject_lora, lora_layers, lora_tensors, merge_lora
from gpt.adapters.low_rank import low_rank_linear
from gpt.checkpoint.save_load import model_tensors
from gpt.kernels.nf4_packing import dequantize, quantize
from gpt.model.config import ModelConfig
from tests.adapters.adapted import ALL, IDS, learned, make
from tests.tolerances import TOLERANCE


@pytest.mark.parametrize("precision", ["bf16", "nf4"])
def test_gradients_against_float64(precision: str) -> None:
    """Guards: a backward through other weights than the forward's, packed rows taken for columns. The
    reference is autograd in float64 on the same dequantized weight."""
    torch.manual_seed(0)
    linear = nn.Linear(64, 32)
    base = Nf4Linear(linear) if precision == "nf4" else Bf16Linear(linear)
    layer = LoraLinear(base)
    layer.add("a", ALL, torch.Generator())
    layer.acting = {"a": 1.0}
    layer.lora_b["a"].data.normal_()
    x, up = torch.randn(3, 5, 64, requires_grad=True), torch.randn(3, 5, 32)
    wanted = (x, layer.lora_a["a"], layer.lora_b["a"])
    out = layer(x)
    ours = torch.autograd.grad((out * up).sum(), wanted)
    weight = dequantize(quantize(linear.weight)) if precision == "nf4" else linear.weight.bfloat16()
    exact = [t.detach().double().requires_grad_() for t in wanted]
    plain = exact[0] @ weight.double().T + linear.bias.double() + 2.0 * exact[0] @ exact[1].T @ exact[2].T
    theirs = torch.autograd.grad((plain * up).sum(), exact)
    assert (out - plain).abs().max() <= TOLERANCE["low_rank_vs_float64"]
    for got, expected in zip(ours, theirs, strict=True):
        assert (got - expected).abs().max() <= TOLERANCE["low_rank_vs_float64"] * expected.abs().max()


def test_no_dense_copy_is_kept() -> None:
    """Guards: what autograd saves between the directions: x and x A^T, the packed weight, nothing as large
    as a dense one. Without an adapter not even x."""
    linear = nn.Linear(256, 512, bias=False)
    nf4 = quantize(linear.weight)
    x = torch.randn(4, 256, requires_grad=True)
    a, b = torch.randn(2, 256, requires_grad=True), torch.zeros(512, 2, requires_grad=True)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        low_rank_linear(x, nf4, None, a, b, 1.0, None)
    assert sorted(tuple(t.shape) for t in kept) == [(2, 256), (4, 2), (4, 256), (512, 2)]
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        low_rank_linear(x, nf4, None, None, None, 0.0, None)
    assert kept == []


@torch.no_grad()
@pytest.mark.parametrize("precision", ["bf16", "nf4"])
def test_starts_and_merges_as_its_packed_base(modern: ModelConfig, precision: BasePrecision) -> None:
    """Guards: adapters on a packed base that do not begin as it; a merge into the weights before packing,
    which the adapters never saw. Everything that is no projection is untouched."""
    original, model = make(modern), make(modern)
    assert pack_base(model, precision) == 14
    packed = model(IDS)
    assert not torch.allclose(packed, original(IDS), atol=1e-3)
    inject_lora(model, ALL, seed=1)
    assert torch.equal(model(IDS), packed)
    learned(model)
    expected = model(IDS)
    deltas = {layer.base: layer.delta() for layer in lora_layers(model)}
    merge_lora(model)
    assert (model(IDS) - expected).abs().max() <= TOLERANCE["lora_merged_vs_unmerged"]
    merged, before = model_tensors(model), model_tensors(original)
    assert merged.keys() == before.keys()
    assert all(t.dtype == torch.float32 for t in merged.values())
    first = next(iter(deltas.values()))
    weight = before["blocks.0.attention.q_proj.weight"]
    rounded = dequantize(quantize(weight)) if precision == "nf4" else weight.bfloat16().float()
    torch.testing.assert_close(merged["blocks.0.attention.q_proj.weight"], rounded + first)
    assert torch.equal(merged["embed.weight"], before["embed.weight"])


def test_what_a_resume_state_holds(modern: ModelConfig) -> None:
    """Guards: packed weights in every resume state, or parameters of a packed base that an optimizer
    finds."""
    from gpt.train.state import saved_tensors

    model = make(modern)
    pack_base(model, "nf4")
    inject_lora(model, ALL, seed=1)
    saved = saved_tensors(model)
    assert {t.data_ptr() for t in saved.values()} == {t.data_ptr() for t in lora_tensors(model).values()}


def test_bytes_in_memory(modern: ModelConfig) -> None:
    """Guards: fp32 weights that stay beside the packed ones. One matrix of 64 x 32 by hand: 1,024 bytes of
    codes, 32 scales of a byte, one of four, and a mean: 1,064 of 8,192."""
    model = make(modern)
    pack_base(model, "nf4")
    layer = model.blocks[0].feed_forward.up_proj
    assert isinstance(layer, Nf4Linear)
    assert not list(layer.parameters())
    assert sum(b.nbytes for b in layer.buffers()) == layer.frozen.nbytes == 1024 + 32 + 4 + 4


def test_misfits_are_refused(modern: ModelConfig) -> None:
    """Guards: a model that NF4 cannot hold, packed in part and without a word."""
    odd = replace(modern, dim=20, n_heads=2, n_kv_heads=2, ffn_dim=50)
    with pytest.raises(ValueError, match=r"base_precision: nf4 takes matrices of a multiple of 64"):
        pack_base(make(odd), "nf4")
    assert pack_base(make(odd), "fp32") == 0
    with pytest.raises(ValueError, match="no plain projection to pack"):
        pack_base(nn.Sequential(nn.Linear(64, 64)), "nf4")
