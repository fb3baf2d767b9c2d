"""gpt/checkpoint/llama_weights.py: Llama and Mixtral, out and in, and what they cannot hold."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt.checkpoint.foreign_format import refuse_unheld
from gpt.checkpoint.hugging_face import read_weights
from gpt.checkpoint.llama_weights import HELD, save_llama
from gpt.checkpoint.safetensors import read_safetensors, write_safetensors
from gpt.checkpoint.save_load import model_tensors
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from tests.generate.tiny_checkpoint import random_model

LLAMA = ModelConfig(
    vocab_size=40,
    max_seq_len=16,
    dim=24,
    n_layers=2,
    n_heads=6,
    n_kv_heads=2,
    ffn_dim=20,
    norm_eps=1e-6,
    rope_theta=500000.0,
)
MIXTRAL = dataclasses.replace(LLAMA, n_experts=3, n_experts_per_token=1, tie_embeddings=False)
QWEN = dataclasses.replace(LLAMA, qk_norm=True)
QWEN_MOE = dataclasses.replace(MIXTRAL, qk_norm=True)


@pytest.mark.parametrize(
    "config",
    [LLAMA, dataclasses.replace(LLAMA, tie_embeddings=False), MIXTRAL, QWEN, QWEN_MOE],
    ids=["tied", "untied", "mixtral", "qwen3", "qwen3_moe"],
)
def test_written_and_read_back(tmp_path: Path, config: ModelConfig) -> None:
    """Guards: a dial or a tensor lost on the way, experts stacked in another order."""
    model = random_model(config)
    save_llama(tmp_path / "hf", model, end_of_text=7)
    read, tensors = read_weights(tmp_path / "hf")
    assert read == config
    expected = model_tensors(model)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    content = json.loads((tmp_path / "hf/config.json").read_text())
    assert content["eos_token_id"] == 7
    assert content["rope_theta"] == content["rope_parameters"]["rope_theta"] == 500000.0


def test_names_on_disk_by_hand(tmp_path: Path) -> None:
    """Guards: names that only we can read; w1 is the gate, w2 leads down, w3 up."""
    model = random_model(dataclasses.replace(MIXTRAL, n_layers=1))
    save_llama(tmp_path / "hf", model)
    theirs = read_safetensors(tmp_path / "hf/model.safetensors")
    layer = "model.layers.0"
    assert theirs.keys() == {
        "model.embed_tokens.weight",
        "model.norm.weight",
        "lm_head.weight",
        *(f"{layer}.{name}.weight" for name in ("input_layernorm", "post_attention_layernorm")),
        *(f"{layer}.self_attn.{name}_proj.weight" for name in "qkvo"),
        f"{layer}.block_sparse_moe.gate.weight",
        *(f"{layer}.block_sparse_moe.experts.{e}.w{i}.weight" for e in range(3) for i in (1, 2, 3)),
    }
    ours = model_tensors(model)
    for i, name in ((1, "experts_gate"), (2, "experts_down"), (3, "experts_up")):
        expert = theirs[f"{layer}.block_sparse_moe.experts.2.w{i}.weight"]
        assert torch.equal(expert, ours[f"blocks.0.feed_forward.{name}"][2])


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    """Guards: a date or an order of chance in the file."""
    model = random_model(LLAMA)
    for name in ("a", "b"):
        save_llama(tmp_path / name, model)
    for file in ("model.safetensors", "config.json", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"logit_softcap": 30.0}, "logit_softcap"),
        ({"bias": True}, "bias"),
        ({"activation": "gelu"}, "activation"),
        ({"activation": "relu2"}, "activation"),
        ({"position": "learned"}, "position"),
        ({"norm": "layernorm"}, "norm"),
        ({"norm_gain": False}, "norm_gain"),
        ({"token_shift": True}, "token_shift"),
        ({"value_residual": True}, "value_residual"),
        ({"bigram_rows": 8}, "bigram_rows"),
    ],
)
@pytest.mark.parametrize("base", [LLAMA, MIXTRAL, QWEN], ids=["llama", "mixtral", "qwen3"])
def test_a_dial_that_the_format_lacks(
    tmp_path: Path, base: ModelConfig, change: dict[str, Any], key: str
) -> None:
    """Guards: a file that loads elsewhere and speaks differently there."""
    config = dataclasses.replace(base, **change)
    model = Transformer(dataclasses.replace(base))
    model.config = config
    with pytest.raises(ValueError, match=rf"^{key}: .* cannot be held by the (Llama|Mixtral|Qwen3) format"):
        save_llama(tmp_path / "hf", model)
    assert not (tmp_path / "hf").exists()


def test_a_dial_of_the_future_is_refused() -> None:
    """Guards: the dial that somebody adds to ModelConfig next, and forgets here."""
    fields = [("token_teleport", bool, dataclasses.field(default=False))]
    future = dataclasses.make_dataclass("Future", fields, bases=(ModelConfig,), frozen=True, kw_only=True)
    dials = dataclasses.asdict(LLAMA)
    refuse_unheld(future(**dials), HELD, "Llama")
    with pytest.raises(ValueError, match="token_teleport: True cannot be held by the Llama format"):
        refuse_unheld(future(**dials, token_teleport=True), HELD, "Llama")


def test_training_dials_change_no_file(tmp_path: Path) -> None:
    """Guards: a model refused because it was trained with dropout."""
    save_llama(tmp_path / "hf", random_model(dataclasses.replace(LLAMA, dropout=0.1)))
    assert read_weights(tmp_path / "hf")[0] == LLAMA


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_bias": True}, "attention_bias: True is not held here"),
        ({"hidden_act": "gelu"}, "hidden_act: 'gelu'"),
        ({"rope_scaling": {"factor": 8.0}}, "rope_scaling:"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope_type: 'llama3'"),
        ({"rope_theta": 10000.0}, r"rope_theta: 10000\.0 is not held here; 500000\.0"),
        ({"head_dim": 8}, "head_dim: 8 is not held here; 4 is expected"),
        ({"sliding_window": 4096}, "sliding_window: 4096"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"num_key_value_heads": 4}, r"config\.json: n_kv_heads: 4 does not divide n_heads 6"),
        ({"num_hidden_layers": None}, "num_hidden_layers: a positive integer is expected"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings: true or false is expected"),
        ({"num_hidden_layers": 1}, r"tensor 'model\.layers\.1\..*' has no place in the model"),
        ({"num_hidden_layers": 3}, r"tensor 'model\.layers\.2\..*' is missing"),
        ({"tie_word_embeddings": False}, r"tensor 'lm_head\.weight' is missing"),
        ({"intermediate_size": 19}, r"mlp\.gate_proj\.weight' has the shape \(20, 24\).*asks for \(19, 24\)"),
    ],
)
def test_configs_that_are_another_model(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Guards: another function computed with these weights, and no word."""
    save_llama(tmp_path, random_model(LLAMA))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path)


def test_theta_of_older_and_newer_files(tmp_path: Path) -> None:
    """Guards: 10000 taken in silence because the key stands in the other place."""
    save_llama(tmp_path, random_model(LLAMA))
    path = tmp_path / "config.json"
    both = json.loads(path.read_text())
    for key in ("rope_theta", "rope_parameters"):
        path.write_text(json.dumps({k: v for k, v in both.items() if k != key}))
        assert read_weights(tmp_path)[0].rope_theta == 500000.0


def test_an_expert_that_is_missing_is_named(tmp_path: Path) -> None:
    """Guards: seven experts of eight."""
    save_llama(tmp_path, random_model(MIXTRAL))
    tensors = read_safetensors(tmp_path / "model.safetensors")
    del tensors["model.layers.1.block_sparse_moe.experts.2.w3.weight"]
    write_safetensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(ValueError, match=r"experts\.2\.w3\.weight' is missing"):
        read_weights(tmp_path)
