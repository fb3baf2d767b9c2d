"""gpt/adapters: LoRA starts as its base, learns, merges."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gpt.adapters.config import LoraConfig
from gpt.adapters.lora import (
    LoraLinear,
    adapter_names,
    inject_lora,
    load_lora,
    lora_layers,
    lora_tensors,
    merge_lora,
)
from gpt.checkpoint.save_load import model_tensors
from gpt.model.config import ModelConfig
from tests.adapters.adapted import ALL, CONFIG, IDS, learned, make
from tests.tolerances import TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("config", [CONFIG, ALL], ids=["two targets", "all targets"])
def test_starts_as_its_base_exactly(modern: ModelConfig, config: LoraConfig) -> None:
    """Guards: a B that is not zero, a product in another order than the base's own."""
    model = make(modern)
    before = model(IDS)
    assert inject_lora(model, config, seed=1) == 2 * len(config.targets)
    assert torch.equal(model(IDS), before)
    model.train()
    assert torch.equal(model(IDS), before)


def test_only_adapters_learn(modern: ModelConfig) -> None:
    """Guards: a base that moves under its adapter. Parameters by hand: R (in + out) a layer."""
    model = make(modern)
    inject_lora(model, CONFIG, seed=1)
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert {p.data_ptr() for p in trainable} == {t.data_ptr() for t in lora_tensors(model).values()}
    assert sum(p.numel() for p in trainable) == 2 * (4 * (32 + 32) + 4 * (64 + 32))


@torch.no_grad()
@pytest.mark.parametrize("rank_stabilized", [False, True])
def test_merged_equals_unmerged(modern: ModelConfig, rank_stabilized: bool) -> None:
    """Guards: the scale forgotten, B A transposed; and merged names must be the base's again."""
    model = make(modern)
    names = set(model_tensors(model))
    inject_lora(model, replace(ALL, rank_stabilized=rank_stabilized), seed=1)
    learned(model)
    expected = model(IDS)
    merge_lora(model)
    assert (model(IDS) - expected).abs().max() <= TOLERANCE["lora_merged_vs_unmerged"]
    assert set(model_tensors(model)) == names
    assert not list(lora_layers(model))


@torch.no_grad()
@pytest.mark.parametrize(("rank_stabilized", "expected"), [(False, 30.0), (True, 60.0)])
def test_update_by_hand(rank_stabilized: bool, expected: float) -> None:
    """W = 0, R 4, alpha 12: A is 1 in row 0 and 0 in the others, B = 2, so B A x = 2 (x1 + x2) = 10 for
    x = (1, 4). alpha / R = 3 gives 30, alpha / sqrt(R) = 6 gives 60."""
    base = nn.Linear(2, 1, bias=False)
    base.weight.zero_()
    config = LoraConfig(
        lora_rank=4, lora_alpha=12.0, targets=("q_proj",), dropout=0.0, rank_stabilized=rank_stabilized
    )
    layer = LoraLinear(base)
    layer.add("hand", config, torch.Generator())
    layer.acting = {"hand": 1.0}
    layer.lora_a["hand"].zero_()[0] = 1.0
    layer.lora_b["hand"].fill_(2.0)
    assert layer(torch.tensor([1.0, 4.0])).item() == expected
    assert layer(torch.tensor([[[1.0, 4.0]]])).shape == (1, 1, 1)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_against_autograd(dropout: float, bias: bool) -> None:
    """Guards: our backward: a scale forgotten, an update that reaches x twice or around its dropout."""
    torch.manual_seed(0)
    config = LoraConfig(lora_rank=3, lora_alpha=6.0, targets=("q_proj",), dropout=dropout)
    layer = LoraLinear(nn.Linear(8, 5, bias=bias).double())
    layer.add("a", config, torch.Generator())
    layer.acting = {"a": 1.5}
    layer.double()
    layer.lora_b["a"].data.normal_()
    x, up = torch.randn(2, 4, 8).double().requires_grad_(), torch.randn(2, 4, 5).double()
    wanted = (x, layer.lora_a["a"], layer.lora_b["a"])
    torch.manual_seed(1)
    ours = torch.autograd.grad((layer(x) * up).sum(), wanted)
    torch.manual_seed(1)
    seen = layer.dropouts["a"](x) if dropout else x
    plain = layer.base(x) + 1.5 * 2.0 * seen @ layer.lora_a["a"].T @ layer.lora_b["a"].T
    theirs = torch.autograd.grad((plain * up).sum(), wanted)
    for got, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)


def test_autocast_computes_in_its_dtype(modern: ModelConfig) -> None:
    """Guards: fp32 products inside a bf16 run, and gradients left in bf16 on fp32 parameters."""
    model = make(modern)
    inject_lora(model, ALL, seed=1)
    learned(model)
    layer = next(lora_layers(model))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(torch.ones(1, 2, 32))
        model(IDS).float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.lora_a.values())


@torch.no_grad()
def test_loading_is_strict(modern: ModelConfig) -> None:
    """Guards: an adapter of another shape or of other targets, loaded in part."""
    model = make(modern)
    inject_lora(model, CONFIG, seed=1)
    learned(model)
    tensors = {name: t.clone() for name, t in lora_tensors(model).items()}
    expected = model(IDS)
    again = make(modern)
    inject_lora(again, CONFIG, seed=9)
    load_lora(again, tensors)
    assert torch.equal(again(IDS), expected)
    first = min(tensors)
    with pytest.raises(ValueError, match=f"tensor '{first}' is in the model or in the file"):
        load_lora(again, {k: v for k, v in tensors.items() if k != first})
    with pytest.raises(ValueError, match=r"is \(1,\), \(\d+, \d+\) is expected"):
        load_lora(again, tensors | {first: torch.ones(1)})


@torch.no_grad()
def test_a_mixture_s_router_and_attention_are_adapted(modern: ModelConfig) -> None:
    """Guards: a router whose adapter is never asked; experts named as targets and silently left out."""
    model = make(replace(modern, n_experts=4))
    before = model(IDS)
    targets = ("q_proj", "o_proj", "router")
    inject_lora(model, replace(CONFIG, targets=targets), seed=1)
    assert torch.equal(model(IDS), before)
    learned(model)
    expected = model(IDS)
    assert not torch.allclose(expected, before)
    merge_lora(model)
    assert (model(IDS) - expected).abs().max() <= TOLERANCE["lora_merged_vs_unmerged"]
    with pytest.raises(ValueError, match="a mixture's stacked experts carry none: name q_proj"):
        inject_lora(make(replace(modern, n_experts=4)), CONFIG, seed=1)


def test_bad_dials_are_refused(modern: ModelConfig) -> None:
    """Guards: a run that trains nothing."""
    with pytest.raises(ValueError, match="lora_rank: at least 1"):
        LoraConfig(lora_rank=0, lora_alpha=1.0, targets=("q_proj",), dropout=0.0)
    with pytest.raises(ValueError, match="'query' is no projection"):
        LoraConfig(lora_rank=1, lora_alpha=1.0, targets=("query",), dropout=0.0)
    with pytest.raises(ValueError, match="targets: empty"):
        LoraConfig(lora_rank=1, lora_alpha=1.0, targets=(), dropout=0.0)
    gate = replace(CONFIG, targets=("q_proj", "gate_proj"))
    model = make(replace(modern, activation="gelu"))
    with pytest.raises(ValueError, match="no linear layer named 'gate_proj'"):
        inject_lora(model, gate, seed=0)
    assert adapter_names(model) == [], "q_proj was adapted before gate_proj was missed"
