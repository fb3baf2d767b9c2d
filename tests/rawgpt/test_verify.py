"""Lineage: whole chains are called whole, and the broken link is the one that is named."""

import json
from pathlib import Path

import pytest
import torch

from gpt.checkpoint.adapter import save_adapter
from gpt.checkpoint.manifest import file_sha256
from gpt.model.config import ModelConfig
from gpt.tokenizer.tokenizer import Tokenizer, train_tokenizer
from rawgpt.verify import Link, lock_links, model_links
from tests.generate.tiny_checkpoint import save_tiny


def sha_of(root: Path, stage: str) -> str:
    return file_sha256(root / stage / "checkpoint/manifest.json")


@pytest.fixture
def root(tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer) -> Path:
    """pretrain -> finetune -> quantize."""
    root, parent = tmp_path / "models", None
    for seed, stage in enumerate(("pretrain", "finetune", "quantize")):
        save_tiny(root / stage / "checkpoint", modern, tokenizer, parent_sha256=parent, seed=seed)
        parent = sha_of(root, stage)
    return root


def broken(links: list[Link]) -> dict[str, str]:
    return {link.name: link.detail for link in links if not link.is_whole}


def test_a_whole_chain(root: Path) -> None:
    """Three links, each with its parent by name."""
    links = {link.name: link for link in model_links(root)}
    assert all(link.is_whole for link in links.values())
    assert links["pretrain"].detail == f"{sha_of(root, 'pretrain')[:12]}, trained from scratch"
    assert links["quantize"].detail == f"{sha_of(root, 'quantize')[:12]}, from finetune"


def test_a_parent_made_again_breaks_its_child_only(
    root: Path, modern: ModelConfig, tokenizer: Tokenizer
) -> None:
    """A model that is served with weights it did not come from."""
    save_tiny(root / "pretrain/checkpoint", modern, tokenizer, seed=9)
    (name,) = faults = broken(model_links(root))
    assert name == "finetune"
    assert "is not here: made again or damaged since; run `dvc repro" in faults[name]


def test_a_damaged_file_is_named(root: Path) -> None:
    """The damaged folder and the child that lost its parent, not the grandchild."""
    path = root / "pretrain/checkpoint/model.safetensors"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    faults = broken(model_links(root))
    assert set(faults) == {"pretrain", "finetune"}
    assert "model.safetensors: damaged" in faults["pretrain"]


def test_another_tokenizer_than_the_parents(root: Path, modern: ModelConfig, tokenizer: Tokenizer) -> None:
    """Right hashes, another language."""
    other = train_tokenizer(["zebras quiz jazz wizards dizzy buzz fuzz" * 9], 280, "gpt2")
    save_tiny(root / "finetune/checkpoint", modern, other, parent_sha256=sha_of(root, "pretrain"))
    assert "its tokenizer is not that of its parent pretrain" in broken(model_links(root))["finetune"]


def test_adapters_follow_base_sha256(root: Path) -> None:
    """An adapter on weights that it was not trained on."""
    folder = root / "finetune/adapter"
    folder.mkdir()
    config = json.loads((root / "finetune/checkpoint/config.json").read_text())
    for base, is_whole in ((sha_of(root, "pretrain"), True), ("0" * 64, False)):
        text = json.dumps({**config, "base_sha256": base})
        (folder / "config.json").write_text(text)
        (folder / "manifest.json").write_text(
            json.dumps({"files": {"config.json": file_sha256(folder / "config.json")}})
        )
        assert ("finetune/adapter" not in broken(model_links(root))) == is_whole


def test_lock_links(tmp_path: Path) -> None:
    """A stage whose input was made again after it ran."""
    lock = tmp_path / "dvc.lock"
    assert lock_links(lock) == []
    text = """
schema: '2.0'
stages:
  shard:
    outs: [{path: data/shard/shards, md5: aa.dir}]
  pretrain:
    deps: [{path: data/shard/shards, md5: aa.dir}, {path: gpt/model, md5: bb.dir}]
    outs: [{path: models/pretrain/checkpoint, md5: cc.dir}]
  finetune:
    deps: [{path: models/pretrain/checkpoint, md5: dd.dir}]
"""
    lock.write_text(text)
    links = lock_links(lock)
    assert [(link.name, link.is_whole) for link in links] == [
        ("dvc.lock pretrain", True),
        ("dvc.lock finetune", False),
    ]
    assert "than pretrain wrote; run `dvc repro finetune`" in links[1].detail
    lock.write_text("stages: [")
    with pytest.raises(ValueError, match="damaged; run `git checkout"):
        lock_links(lock)


def test_an_adapter_as_finetune_writes_it_is_whole(root: Path) -> None:
    """Guards: an adapter called broken because it has no tokenizer of its own."""
    folder = root / "finetune/adapter"
    save_adapter(
        folder,
        {"a": torch.ones(1)},
        base_sha256=sha_of(root, "pretrain"),
        lora={},
        stage="finetune",
        base="pretrain",
        base_precision="fp32",
    )
    assert "finetune/adapter" not in broken(model_links(root))
