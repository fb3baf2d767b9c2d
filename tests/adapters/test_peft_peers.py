"""LoRA against peft itself, in .venv-peers alone: `make test-peers`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt.adapters.config import LoraConfig
from gpt.adapters.lora import inject_lora, load_lora, lora_tensors, merge_lora
from gpt.adapters.peft_format import read_peft, save_peft
from gpt.checkpoint.llama_weights import save_llama
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from tests.adapters.adapted import ALL, learned, make
from tests.tolerances import TOLERANCE

pytestmark = pytest.mark.peers
IDS = torch.arange(24).view(2, 12)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep transformers from asking its hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def plain(modern: ModelConfig) -> ModelConfig:
    """A Llama: the tiny model without QK-norm."""
    return replace(modern, qk_norm=False)


def their_base(folder: Path, model: Transformer) -> Any:
    import transformers

    save_llama(folder, model)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
@pytest.mark.parametrize("rank_stabilized", [False, True])
@pytest.mark.parametrize("targets", [ALL.targets, ("q_proj", "v_proj")])
def test_our_file_read_by_peft(
    tmp_path: Path, plain: ModelConfig, rank_stabilized: bool, targets: tuple[str, ...]
) -> None:
    """Guards: our reading and writing agreeing with each other and with nobody else; a scale of our own."""
    import peft

    lora = replace(ALL, rank_stabilized=rank_stabilized, targets=targets)
    model = make(plain)
    theirs = their_base(tmp_path / "base", model)
    inject_lora(model, lora, seed=1)
    learned(model)
    save_peft(tmp_path / "adapter", lora_tensors(model), lora, plain, base=str(tmp_path / "base"))
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    assert (model(IDS) - adapted(IDS).logits).abs().max() <= TOLERANCE["logits_vs_peft"]
    with adapted.disable_adapter():
        base = adapted(IDS).logits
    assert (model(IDS) - base).abs().max() > 1e3 * TOLERANCE["logits_vs_peft"], "the adapter did nothing"
    merge_lora(model)
    merged = adapted.merge_and_unload()
    assert (model(IDS) - merged(IDS).logits).abs().max() <= TOLERANCE["logits_vs_peft"]


@torch.no_grad()
def test_their_file_read_by_us(tmp_path: Path, plain: ModelConfig) -> None:
    """Guards: a dial that peft writes and we refuse, a tensor that it names otherwise."""
    import peft

    model = make(plain)
    config = peft.LoraConfig(
        r=6, lora_alpha=9, use_rslora=True, target_modules=["q_proj", "o_proj", "up_proj"]
    )
    adapted = peft.get_peft_model(their_base(tmp_path / "base", model), config).eval()
    generator = torch.Generator().manual_seed(3)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.normal_(std=0.2, generator=generator)
    adapted.save_pretrained(tmp_path / "adapter")
    lora, tensors = read_peft(tmp_path / "adapter", plain)
    assert lora == LoraConfig(
        lora_rank=6,
        lora_alpha=9.0,
        targets=("q_proj", "o_proj", "up_proj"),
        dropout=0.0,
        rank_stabilized=True,
    )
    inject_lora(model, lora, seed=0)
    load_lora(model, tensors)
    assert (model(IDS) - adapted(IDS).logits).abs().max() <= TOLERANCE["logits_vs_peft"]


def test_gradients_as_theirs(tmp_path: Path, plain: ModelConfig) -> None:
    """Guards: a step that goes elsewhere from the same weights: gradients of A and B of every layer."""
    import peft

    model = make(plain)
    theirs = their_base(tmp_path / "base", model)
    inject_lora(model, ALL, seed=1)
    learned(model)
    save_peft(tmp_path / "adapter", lora_tensors(model), ALL, plain, base=str(tmp_path / "base"))
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter", is_trainable=True).eval()
    up = torch.randn(2, 12, plain.vocab_size, generator=torch.Generator().manual_seed(5))
    (model(IDS) * up).sum().backward()
    (adapted(IDS).logits * up).sum().backward()
    from gpt.adapters.lora import lora_layers

    ours = [p.grad for layer in lora_layers(model) for p in (*layer.lora_a.values(), *layer.lora_b.values())]
    by_layer = [p.grad for name, p in adapted.named_parameters() if "lora_" in name]
    assert len(ours) == len(by_layer) == 28
    for got, expected in zip(ours, by_layer, strict=True):
        assert got is not None
        assert expected is not None
        assert (got - expected).abs().max() <= TOLERANCE["gradients_vs_peft"] * expected.abs().max()
