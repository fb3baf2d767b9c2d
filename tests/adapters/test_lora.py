"""gpt/adapters: LoRA starts as its base, learns, merges."""

import pytest
import torch

from gpt.adapters.config import LoraConfig
from gpt.adapters.lora import LoraLinear, inject_lora, lora_tensors, merge_lora
from gpt.checkpoint.save_load import model_tensors
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from tests.tolerances import TOLERANCE

CONFIG = LoraConfig(lora_rank=4, lora_alpha=8.0, targets=("q_proj", "down_proj"), dropout=0.0)
IDS = torch.arange(12)[None]


def make(modern: ModelConfig) -> Transformer:
    model = Transformer(modern)
    init_weights(model, 0, init_std=0.2)
    return model.eval()


@torch.no_grad()
def test_starts_as_its_base_exactly(modern: ModelConfig) -> None:
    """Guards: a B that is not zero."""
    model = make(modern)
    before = model(IDS)
    assert inject_lora(model, CONFIG, seed=1) == 4
    assert torch.equal(model(IDS), before)


def test_only_adapters_learn(modern: ModelConfig) -> None:
    """Guards: a base that moves under its adapter. Parameters by hand: R (in + out) a layer."""
    model = make(modern)
    inject_lora(model, CONFIG, seed=1)
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert set(trainable) == set(lora_tensors(model))
    assert sum(p.numel() for p in trainable.values()) == 2 * (4 * (32 + 32) + 4 * (64 + 32))


@torch.no_grad()
def test_merged_equals_unmerged(modern: ModelConfig) -> None:
    """Guards: the scale forgotten, B A transposed; and merged names must be the base's again."""
    model = make(modern)
    names = set(model_tensors(model))
    inject_lora(model, CONFIG, seed=1)
    for name, tensor in lora_tensors(model).items():
        if name.endswith("lora_b"):
            tensor.normal_(generator=torch.Generator().manual_seed(2))
    expected = model(IDS)
    merge_lora(model)
    assert (model(IDS) - expected).abs().max() <= TOLERANCE["lora_merged_vs_unmerged"]
    assert set(model_tensors(model)) == names


@torch.no_grad()
def test_update_by_hand() -> None:
    """y = W x + (alpha / R) B A x with R 1, alpha 3: W = 0, A = (1, 1), B = 2: 3 * 2 * (x1 + x2)."""
    base = torch.nn.Linear(2, 1, bias=False)
    base.weight.zero_()
    config = LoraConfig(lora_rank=1, lora_alpha=3.0, targets=("q_proj",), dropout=0.0)
    layer = LoraLinear(base, config, torch.Generator())
    layer.lora_a.fill_(1.0)
    layer.lora_b.fill_(2.0)
    assert layer(torch.tensor([1.0, 4.0])).item() == 30.0


def test_bad_dials_are_refused(modern: ModelConfig) -> None:
    """Guards: a run that trains nothing."""
    with pytest.raises(ValueError, match="lora_rank: at least 1"):
        LoraConfig(lora_rank=0, lora_alpha=1.0, targets=("q_proj",), dropout=0.0)
    with pytest.raises(ValueError, match="'query' is no projection"):
        LoraConfig(lora_rank=1, lora_alpha=1.0, targets=("query",), dropout=0.0)
    with pytest.raises(ValueError, match="targets: empty"):
        LoraConfig(lora_rank=1, lora_alpha=1.0, targets=(), dropout=0.0)
    gate = LoraConfig(lora_rank=1, lora_alpha=1.0, targets=("gate_proj",), dropout=0.0)
    from dataclasses import replace

    with pytest.raises(ValueError, match="no linear layer named 'gate_proj'"):
        inject_lora(Transformer(replace(modern, activation="gelu")), gate, seed=0)
