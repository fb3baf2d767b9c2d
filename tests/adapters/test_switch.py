"""Several adapters on one base: switched, summed, switched off, taken away."""

from dataclasses import replace

import pytest
import torch

from gpt.adapters.lora import adapter_names, inject_lora, lora_layers, lora_tensors, merge_lora
from gpt.adapters.switch import acting, base_alone, remove_adapter, use_adapters
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from tests.adapters.adapted import ALL, CONFIG, IDS, learned, make
from tests.tolerances import TOLERANCE


def two(modern: ModelConfig) -> Transformer:
    """A model with an adapter of two targets and one of all, of other ranks."""
    model = make(modern)
    inject_lora(model, CONFIG, seed=1, name="hinglish")
    inject_lora(model, replace(ALL, lora_rank=2), seed=2, name="polite")
    learned(model, "hinglish", seed=3)
    learned(model, "polite", seed=4)
    return model


def alone(modern: ModelConfig, name: str) -> Transformer:
    """The same model with one of them merged into its weights."""
    model = two(modern)
    use_adapters(model, name)
    merge_lora(model)
    return model


@torch.no_grad()
def test_each_acts_as_if_it_were_alone(modern: ModelConfig) -> None:
    """Guards: an adapter that is added to the one before it instead of taking its place."""
    model, base = two(modern), make(modern)
    assert adapter_names(model) == ["hinglish", "polite"]
    for name in ("hinglish", "polite", "hinglish"):
        use_adapters(model, name)
        expected = alone(modern, name)(IDS)
        assert (model(IDS) - expected).abs().max() <= TOLERANCE["lora_merged_vs_unmerged"]
    with base_alone(model):
        assert torch.equal(model(IDS), base(IDS)), "the reference model is not the base"
    assert (model(IDS) - expected).abs().max() <= TOLERANCE["lora_merged_vs_unmerged"]


@torch.no_grad()
def test_a_weighted_sum_is_that_of_the_weights(modern: ModelConfig) -> None:
    """Guards: shares of outputs or of matrices A and B instead of shares of updates:
    W + 0.7 (W_h - W) + 0.5 (W_p - W), from the models that have one merged."""
    model, base = two(modern), make(modern)
    hinglish, polite = alone(modern, "hinglish"), alone(modern, "polite")
    expected = make(modern)
    for target, w, h, p in zip(
        expected.parameters(), base.parameters(), hinglish.parameters(), polite.parameters(), strict=True
    ):
        target.copy_(w + 0.7 * (h - w) + 0.5 * (p - w))
    with acting(model, {"hinglish": 0.7, "polite": 0.5}):
        out = model(IDS)
    assert (out - expected(IDS)).abs().max() <= TOLERANCE["lora_merged_vs_unmerged"]
    use_adapters(model, {"hinglish": 0.7, "polite": 0.5})
    merge_lora(model)
    assert (model(IDS) - expected(IDS)).abs().max() <= TOLERANCE["lora_merged_vs_unmerged"]


def test_the_newest_alone_learns(modern: ModelConfig) -> None:
    """Guards: a second adapter's run that moves the first, or the base."""
    model = two(modern)
    learning = {p.data_ptr() for p in model.parameters() if p.requires_grad}
    assert learning == {t.data_ptr() for t in lora_tensors(model, "polite").values()}
    assert all(layer.acting == {"polite": 1.0} for layer in lora_layers(model))


@torch.no_grad()
def test_a_failure_inside_switches_back(modern: ModelConfig) -> None:
    """Guards: one request's error that leaves the next one on the wrong adapter."""
    model = two(modern)
    use_adapters(model, "hinglish")
    expected = model(IDS)
    with pytest.raises(KeyError), acting(model, "polite"):
        raise KeyError("a request failed")
    assert torch.equal(model(IDS), expected)


@torch.no_grad()
def test_removal_and_names(modern: ModelConfig) -> None:
    """Guards: a name that is taken twice, one with a dot, a wrong one that switches everything off."""
    model = two(modern)
    with pytest.raises(ValueError, match="got 'tamil'; the model carries hinglish, polite"):
        use_adapters(model, "tamil")
    with pytest.raises(ValueError, match="the name 'polite' is taken"):
        inject_lora(model, CONFIG, seed=1, name="polite")
    with pytest.raises(ValueError, match=r"'v1\.0' is no name"):
        inject_lora(model, CONFIG, seed=1, name="v1.0")
    remove_adapter(model, "polite")
    assert adapter_names(model) == ["hinglish"]
    assert torch.equal(model(IDS), make(modern)(IDS)), "polite acted, and nothing does now"
    assert inject_lora(model, ALL, seed=5, name="polite") == 14
