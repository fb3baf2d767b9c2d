"""gpt/checkpoint/hugging_face.py: whole folders: shards, tokenizers, identity, damage."""

import json
from pathlib import Path

import pytest
import torch

from gpt.checkpoint.hugging_face import is_hugging_face, open_hugging_face, read_weights
from gpt.checkpoint.llama_weights import save_llama
from gpt.checkpoint.safetensors import read_safetensors, write_safetensors
from gpt.model.config import ModelConfig
from tests.checkpoint.foreign_files import GPT2, TOKENS, gpt2_tensors, save_byte_tokenizer, save_folder
from tests.generate.tiny_checkpoint import random_model, save_tiny

LLAMA = ModelConfig(
    vocab_size=40,
    max_seq_len=16,
    dim=24,
    n_layers=2,
    n_heads=6,
    n_kv_heads=2,
    ffn_dim=20,
    tie_embeddings=False,
)


def shard(folder: Path) -> dict[str, str]:
    """Cut model.safetensors in two files with an index; returns the index's map."""
    tensors = read_safetensors(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "manifest.json").unlink()
    names = sorted(tensors)
    files = {"model-00001-of-00002.safetensors": names[:7], "model-00002-of-00002.safetensors": names[7:]}
    for file, part in files.items():
        write_safetensors(folder / file, {name: tensors[name] for name in part})
    weight_map = {name: file for file, part in files.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    return weight_map


def test_shards_are_one_model(tmp_path: Path) -> None:
    """Guards: only the first shard read."""
    save_llama(tmp_path, random_model(LLAMA))
    _, whole = read_weights(tmp_path)
    shard(tmp_path)
    config, tensors = read_weights(tmp_path)
    assert config == LLAMA
    assert all(torch.equal(tensors[name], whole[name]) for name in whole)


def test_shards_that_do_not_fit(tmp_path: Path) -> None:
    """Guards: a shard that was never downloaded, one that climbs out of the folder, a tensor given twice."""
    save_llama(tmp_path, random_model(LLAMA))
    weight_map = shard(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    second = tmp_path / "model-00002-of-00002.safetensors"
    first = read_safetensors(tmp_path / "model-00001-of-00002.safetensors")
    name = min(first)
    rest = read_safetensors(second)
    write_safetensors(second, rest | {name: first[name]})
    with pytest.raises(ValueError, match=rf"tensor '{name}' stands in another shard too"):
        read_weights(tmp_path)
    second.unlink()
    with pytest.raises(ValueError, match=r"'model-00002-of-00002\.safetensors' is not in the folder"):
        read_weights(tmp_path)
    index.write_text(json.dumps({"weight_map": weight_map | {name: "../model.safetensors"}}))
    with pytest.raises(ValueError, match=r"the shard '\.\./model\.safetensors' is not in the folder"):
        read_weights(tmp_path)
    index.write_text("{}")
    with pytest.raises(ValueError, match=r"index\.json: weight_map is missing"):
        read_weights(tmp_path)
    index.unlink()
    with pytest.raises(ValueError, match=r"neither model\.safetensors nor .* pickle files"):
        read_weights(tmp_path)


def test_a_folder_with_its_tokenizer(tmp_path: Path) -> None:
    """Guards: weights without the words; vocabulary rows that have no text."""
    config = GPT2 | {"vocab_size": 40}
    folder = save_folder(tmp_path / "gpt2", config, gpt2_tensors())
    with pytest.raises(ValueError, match=r"gpt2: no tokenizer\.json \(or vocab\.json and merges\.txt\)"):
        open_hugging_face(folder)
    save_byte_tokenizer(folder)
    with pytest.raises(ValueError, match="token id 1 is missing"):
        open_hugging_face(folder)
    vocabulary = {token: i for i, token in enumerate(t for t in TOKENS if not t.startswith("<|im"))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ValueError, match=f"40 embeddings for {len(vocabulary)} tokens"):
        open_hugging_face(folder)

    rows = len(vocabulary) + 3
    tensors = gpt2_tensors() | {"wte.weight": torch.randn(rows, 24)}
    save_folder(folder, GPT2 | {"vocab_size": rows}, tensors)
    foreign = open_hugging_face(folder)
    assert foreign.tokenizer.n_vocab == rows
    assert foreign.format == "hugging-face gpt2"
    assert foreign.tokenizer.encode("the and")[0] == vocabulary["the"]
    by_file = open_hugging_face(folder / "model.safetensors")
    assert by_file.sha256 == foreign.sha256
    write_safetensors(folder / "model.safetensors", tensors | {"ln_f.bias": torch.zeros(24)})
    assert open_hugging_face(folder).sha256 != foreign.sha256


def test_damage_is_named(tmp_path: Path) -> None:
    """Guards: a garbled config taken for one of ours, one flipped bit of a file that we wrote."""
    save_llama(tmp_path, random_model(LLAMA))
    path = tmp_path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged"):
        open_hugging_face(tmp_path)
    path.write_bytes(data[:-5])
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors: .* wrong offsets"):
        open_hugging_face(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "lla')
    assert is_hugging_face(tmp_path)
    with pytest.raises(ValueError, match=r"config\.json: damaged"):
        open_hugging_face(tmp_path)


def test_our_own_folders_are_not_theirs(tmp_path: Path, modern: ModelConfig, tokenizer) -> None:  # type: ignore[no-untyped-def]
    """Guards: a checkpoint of ours, whole or damaged, read by the wrong door."""
    save_tiny(tmp_path / "checkpoint", modern, tokenizer)
    assert not is_hugging_face(tmp_path / "checkpoint")
    (tmp_path / "checkpoint/config.json").write_text("{")
    assert not is_hugging_face(tmp_path / "checkpoint")
    assert not is_hugging_face(tmp_path)
