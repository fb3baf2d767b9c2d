"""gpt/checkpoint/gpt2_weights.py: GPT-2's file into GPT-2 mode."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gpt.checkpoint.gpt2_weights import MODE, check_gpt2, gpt2_content
from gpt.checkpoint.gpt2_weights import gpt2_tensors as written
from gpt.checkpoint.hugging_face import read_weights
from gpt.checkpoint.safetensors import write_safetensors
from gpt.checkpoint.save_load import load_tensors, model_tensors
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from tests.checkpoint.foreign_files import GPT2, gpt2_tensors, save_folder
from tests.checkpoint.foreign_forward import gpt2_logits
from tests.generate.tiny_checkpoint import random_model
from tests.tolerances import TOLERANCE

IDS = [3, 1, 4, 1, 5, 9, 2, 6]


def logits(folder: Path) -> Tensor:
    config, tensors = read_weights(folder)
    model = Transformer(config)
    load_tensors(model, tensors)
    with torch.inference_mode():
        return model.eval()(torch.tensor([IDS]))[0]


def prefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"transformer.{name}": tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("style", ["bare", "prefixed"])
def test_logits_of_both_key_styles(tmp_path: Path, style: str) -> None:
    """Guards: Conv1D read as a linear (the square c_proj would load all the same), q, k, v cut in another
    order, the mask buffers of the hub's file taken for weights."""
    tensors = gpt2_tensors()
    expected = gpt2_logits(tensors, IDS, 3, 1e-5)
    mask = torch.ones(1, 1, 16, 16).tril()
    buffers = {"h.0.attn.bias": mask, "h.1.attn.bias": mask, "h.1.attn.masked_bias": torch.tensor(-1e4)}
    if style == "bare":
        written = tensors | buffers
    else:
        written = prefixed(tensors) | prefixed({"h.0.attn.bias": mask.to(torch.uint8)})
    got = logits(save_folder(tmp_path, GPT2, written))
    assert (got - expected).abs().max() < TOLERANCE["logits_vs_handwritten"]


def test_a_head_of_its_own(tmp_path: Path) -> None:
    """Guards: an untied output dropped, a tied one that is written twice refused, a torn tie swallowed."""
    tensors = gpt2_tensors()
    own = {"lm_head.weight": torch.flip(tensors["wte.weight"], [0])}
    untied = GPT2 | {"tie_word_embeddings": False}
    got = logits(save_folder(tmp_path / "untied", untied, prefixed(tensors) | own))
    expected = gpt2_logits(tensors | own, IDS, 3, 1e-5)
    assert (got - expected).abs().max() < TOLERANCE["logits_vs_handwritten"]

    twice = prefixed(tensors) | {"lm_head.weight": tensors["wte.weight"]}
    got = logits(save_folder(tmp_path / "twice", GPT2, twice))
    assert (got - gpt2_logits(tensors, IDS, 3, 1e-5)).abs().max() < TOLERANCE["logits_vs_handwritten"]
    with pytest.raises(ValueError, match=r"'lm_head.weight' is tied to 'transformer.wte.weight'"):
        read_weights(save_folder(tmp_path / "torn", GPT2, prefixed(tensors) | own))
    with pytest.raises(ValueError, match=r"tensor 'lm_head.weight' is missing"):
        read_weights(save_folder(tmp_path / "none", untied, prefixed(tensors)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h.1.mlp.c_fc.bias": None}, r"tensor 'h\.1\.mlp\.c_fc\.bias' is missing"),
        ({"h.0.attn.c_attn.weight": None}, r"tensor 'h\.0\.attn\.c_attn\.weight' is missing"),
        ({"h.2.ln_1.weight": torch.ones(24)}, r"tensor 'h\.2\.ln_1\.weight' has no place in the model"),
        ({"wpe.weight": torch.ones(15, 24)}, r"'wpe\.weight' has the shape \(15, 24\).*asks for \(16, 24\)"),
        ({"h.0.mlp.c_fc.weight": torch.ones(96, 24)}, r"'h\.0\.mlp\.c_fc\.weight' has the shape \(96, 24\)"),
        (
            {"wte.weight": torch.ones(40, 24, dtype=torch.int8)},
            r"'wte\.weight' is torch\.int8; quantized",
        ),
    ],
)
def test_odd_tensors_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Guards: a layer left at its random start, or a file of another size half read."""
    tensors = {name: t for name, t in (gpt2_tensors() | change).items() if t is not None}
    with pytest.raises(ValueError, match=message):
        read_weights(save_folder(tmp_path, GPT2, tensors))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation_function": "relu"}, "activation_function: 'relu' is not held here; 'gelu_new'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: True"),
        ({"n_head": 5}, r"config\.json: n_heads: 5 does not divide dim 24"),
        ({"n_embd": "24"}, "n_embd: a positive integer is expected, got '24'"),
        ({"layer_norm_epsilon": None}, "layer_norm_epsilon: a positive number is expected"),
        (
            {"model_type": "gpt_neo"},
            "model_type: 'gpt_neo' is not read; gpt2, llama, mixtral",
        ),
    ],
)
def test_configs_that_are_another_model(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Guards: another function computed with GPT-2's weights, and no word."""
    with pytest.raises(ValueError, match=message):
        read_weights(save_folder(tmp_path, GPT2 | change, gpt2_tensors()))


@pytest.mark.parametrize("tied", [True, False])
def test_written_and_read_back(tmp_path: Path, tied: bool) -> None:
    """Guards: query, key and value fused in another order, a Conv1D written as a linear layer."""
    config = ModelConfig(
        vocab_size=40,
        max_seq_len=16,
        dim=24,
        n_layers=2,
        n_heads=3,
        n_kv_heads=3,
        ffn_dim=40,
        norm="layernorm",
        activation="gelu",
        position="learned",
        bias=True,
        tie_embeddings=tied,
    )
    model = random_model(config)
    write_safetensors(tmp_path / "model.safetensors", written(model))
    (tmp_path / "config.json").write_text(json.dumps(gpt2_content(config)))
    read, tensors = read_weights(tmp_path)
    assert read == config
    expected = model_tensors(model)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"n_kv_heads": 1}, "n_kv_heads"),
        ({"activation": "swiglu"}, "activation"),
        ({"bias": False}, "bias"),
        ({"qk_norm": True}, "qk_norm"),
        ({"logit_softcap": 15.0}, "logit_softcap"),
    ],
)
def test_a_dial_that_gpt2_lacks(change: dict[str, Any], key: str) -> None:
    """Guards: a file that loads elsewhere and speaks differently there."""
    dials = {"vocab_size": 40, "max_seq_len": 16, "dim": 24, "n_layers": 1, "n_heads": 3, "n_kv_heads": 3}
    config = ModelConfig(**{**dials, "ffn_dim": 40, **MODE, **change})
    with pytest.raises(ValueError, match=rf"^{key}: .* cannot be held by the GPT-2 format"):
        check_gpt2(config)
