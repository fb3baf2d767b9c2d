"""Adapters in peft's files: names, dials, round trip, what is refused. Against peft itself:
test_peft_peers.py."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpt.adapters.config import LoraConfig
from gpt.adapters.lora import inject_lora, lora_tensors
from gpt.adapters.peft_format import CONFIG, WEIGHTS, adapter_shapes, peft_name, read_peft, save_peft
from gpt.checkpoint.safetensors import read_safetensors
from gpt.model.config import ModelConfig
from tests.adapters.adapted import ALL, learned, make


@pytest.fixture
def plain(modern: ModelConfig) -> ModelConfig:
    """A Llama: the tiny model without QK-norm."""
    return replace(modern, qk_norm=False)


def written(folder: Path, plain: ModelConfig, lora: LoraConfig = ALL) -> dict[str, torch.Tensor]:
    model = make(plain)
    inject_lora(model, lora, seed=1)
    learned(model)
    save_peft(folder, lora_tensors(model), lora, plain, base="base")
    return lora_tensors(model)


def test_names_by_hand() -> None:
    """Guards: names that peft finds nothing under, which it says in a warning only."""
    prefix = "base_model.model.model.layers.3"
    assert peft_name("blocks.3.attention.q_proj.lora_a") == f"{prefix}.self_attn.q_proj.lora_A.weight"
    assert peft_name("blocks.3.feed_forward.down_proj.lora_b") == f"{prefix}.mlp.down_proj.lora_B.weight"


@pytest.mark.parametrize("rank_stabilized", [False, True])
def test_there_and_back(tmp_path: Path, plain: ModelConfig, rank_stabilized: bool) -> None:
    """Guards: a dial or a tensor lost on the way."""
    lora = replace(ALL, rank_stabilized=rank_stabilized, lora_alpha=12.5, targets=("q_proj", "down_proj"))
    tensors = written(tmp_path / "a", plain, lora)
    again, back = read_peft(tmp_path / "a", plain)
    assert again == lora
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_shapes_are_the_model_s(plain: ModelConfig) -> None:
    """Guards: k and v as wide as q under grouped heads."""
    model = make(plain)
    inject_lora(model, ALL, seed=1)
    expected = {name: tuple(t.shape) for name, t in lora_tensors(model).items()}
    assert adapter_shapes(ALL, plain) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora: True is not held here"),
        ({"bias": "all"}, "bias: 'all' is not held here"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "peft_type: 'IA3' is not held here; 'LORA' is expected"),
        ({"target_modules": "all-linear"}, "target_modules: a list of names is expected"),
        ({"target_modules": ["q_proj", "c_attn"]}, "'c_attn' has no linear layer on both sides"),
        ({"target_modules": ["q_proj"]}, "has no place in the model"),
        ({"r": 5}, r"has the shape \(4, 32\), its config asks for \(5, 32\)"),
    ],
)
def test_what_we_cannot_compute_is_refused(
    tmp_path: Path, plain: ModelConfig, change: dict, message: str
) -> None:
    """Guards: an adapter read as plain LoRA that is something else."""
    written(tmp_path / "a", plain)
    path = tmp_path / "a" / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_peft(tmp_path / "a", plain)


def test_other_architectures_are_refused(tmp_path: Path, plain: ModelConfig, gpt2_mode: ModelConfig) -> None:
    """Guards: names of a Llama on a model that transformers calls otherwise."""
    for config in (gpt2_mode, replace(plain, n_experts=4)):
        with pytest.raises(ValueError, match="known here for a dense Llama"):
            save_peft(tmp_path / "x", {}, ALL, config, base="base")
    with pytest.raises(ValueError, match="no such file; a folder that peft's save_pretrained wrote"):
        read_peft(tmp_path, plain)


def test_written_twice_is_the_same(tmp_path: Path, plain: ModelConfig) -> None:
    """Guards: bytes that depend on the order of a set."""
    for name in "ab":
        written(tmp_path / name, plain)
    for file in (CONFIG, WEIGHTS, "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert len(read_safetensors(tmp_path / "a" / WEIGHTS)) == 2 * 14
