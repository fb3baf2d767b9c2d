"""The guest's NumPy model against the torch model of the same folder."""

import ast
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt.checkpoint.manifest import write_manifest
from gpt.enclave.guest.model import Cache, open_model
from gpt.enclave.guest.weights import read_safetensors
from gpt.model.config import ModelConfig
from gpt.tokenizer.tokenizer import Tokenizer
from tests.enclave.conftest import random_model, write_checkpoint
from tests.tolerances import TOLERANCE

GUEST = Path(__file__).parents[3] / "gpt" / "enclave" / "guest"
VARIANTS = {
    "modern": {},
    "no_qk_norm_mha": {"qk_norm": False, "n_kv_heads": 4},
    "mqa_relu2": {"n_kv_heads": 1, "activation": "relu2"},
    "untied_softcap": {"tie_embeddings": False, "logit_softcap": 3.0, "rope_theta": 500.0},
    "gpt2": {
        "norm": "layernorm",
        "activation": "gelu",
        "position": "learned",
        "bias": True,
        "qk_norm": False,
    },
    "layernorm_without_bias": {"norm": "layernorm", "norm_eps": 1.0e-3},
}
IDS = [5, 300, 7, 7, 0, 319, 42, 1, 2, 3, 4]


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_torch(
    tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer, variant: str, is_packed: bool
) -> None:
    """Guards any equation of the guest that differs from gpt/model, whole or through the cache."""
    model = random_model(replace(modern, **VARIANTS[variant]))
    folder = write_checkpoint(tmp_path / "checkpoint", model, tokenizer, is_packed=is_packed)
    with torch.no_grad():
        expected = model(torch.tensor([IDS]))[0].numpy()  # (T, V)
    guest, _ = open_model(folder)
    tolerance = TOLERANCE["guest_vs_torch"] * np.abs(expected).max()
    np.testing.assert_allclose(guest.logits(IDS, Cache(guest.architecture)), expected, 0, tolerance)
    cache = Cache(guest.architecture)
    parts = [guest.logits(part, cache) for part in (IDS[:4], IDS[4:5], IDS[5:])]
    np.testing.assert_allclose(np.concatenate(parts), expected, 0, tolerance)
    cache = Cache(guest.architecture)
    np.testing.assert_allclose(guest.last_logits(IDS, cache), expected[-1], 0, tolerance)
    with pytest.raises(ValueError, match="do not fit max_seq_len 32"):
        guest.logits([1] * 22, cache)


def test_a_mixture_is_refused_by_name(tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer) -> None:
    """Guards an image whose guest dies in the enclave, where nobody sees why."""
    model = random_model(replace(modern, n_experts=2, n_experts_per_token=1))
    folder = write_checkpoint(tmp_path / "checkpoint", model, tokenizer)
    with pytest.raises(ValueError, match=r"n_experts: 2; .*dense checkpoint"):
        open_model(folder)


@pytest.mark.parametrize(
    "change", [{"token_shift": True}, {"value_residual": True}, {"bigram_rows": 9}, {"norm_gain": False}]
)
def test_a_dial_that_the_guest_lacks_is_refused(
    tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer, change: dict
) -> None:
    """Guards a guest that runs another function than the model that was trained."""
    folder = write_checkpoint(tmp_path / "checkpoint", random_model(replace(modern, **change)), tokenizer)
    with pytest.raises(ValueError, match=f"{next(iter(change))}: got .*; the guest knows"):
        open_model(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_changed_file_is_refused(checkpoint: Path, name: str) -> None:
    """Guards weights that are not those of the manifest, whose hash the image's metadata carries."""
    path = checkpoint / name
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    with pytest.raises(ValueError, match=f"{name}: damaged"):
        open_model(checkpoint)


def test_a_missing_manifest_is_refused(checkpoint: Path) -> None:
    """Guards an unfinished folder that is taken for a model."""
    (checkpoint / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"no readable manifest\.json"):
        open_model(checkpoint)


def test_packed_tensors_must_be_the_listed_ones(checkpoint: Path) -> None:
    """Guards a linear that silently stays away because config.json and tensors disagree."""
    config = json.loads((checkpoint / "config.json").read_text())
    config["quantization"]["linears"].pop()
    (checkpoint / "config.json").write_text(json.dumps(config))
    write_manifest(checkpoint)
    with pytest.raises(ValueError, match="not the linears"):
        open_model(checkpoint)


def test_dtypes_and_bounds_of_safetensors(tmp_path: Path) -> None:
    """Guards bf16 (upper half of fp32: 0x3FC0 is 1.5), and a reader that trusts offsets."""
    header = {
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        "h": {"dtype": "F16", "shape": [1, 1], "data_offsets": [4, 6]},
    }
    body = bytes.fromhex("c03f00c0003e")  # 1.5, -2 in bf16; 1.5 in fp16
    path = tmp_path / "t.safetensors"

    def write(header: dict[str, object]) -> None:
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + body)

    write(header)
    arrays = read_safetensors(path)
    assert arrays["b"].tolist() == [1.5, -2.0]
    assert arrays["h"].tolist() == [[1.5]]
    write({"b": header["b"] | {"data_offsets": [4, 8]}})
    with pytest.raises(ValueError, match="b has wrong offsets"):
        read_safetensors(path)
    write({"b": header["b"] | {"dtype": "F8_E4M3"}})
    with pytest.raises(ValueError, match="unknown dtype F8_E4M3"):
        read_safetensors(path)
    path.write_bytes(b"\xff" * 9)
    with pytest.raises(ValueError, match="damaged safetensors header"):
        read_safetensors(path)


@pytest.mark.parametrize("path", sorted(GUEST.glob("*.py")), ids=lambda path: path.name)
def test_imports_only_the_standard_library_and_numpy(path: Path) -> None:
    """Guards an import that is not in the image: gpt, torch, tiktoken."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"line {node.lineno} leaves the guest"
            names = [] if node.level else [str(node.module).partition(".")[0]]
        else:
            continue
        assert set(names) <= sys.stdlib_module_names | {"numpy"}, f"line {node.lineno}"
