"""gpt/checkpoint: folders that appear whole, are hashed, and resume."""

import random
from pathlib import Path

import pytest
import torch

from gpt.checkpoint.adapter import check_base, open_adapter, save_adapter
from gpt.checkpoint.atomic import atomic_folder
from gpt.checkpoint.manifest import check_manifest
from gpt.checkpoint.save_load import load_model, load_tensors, model_tensors, open_checkpoint, save_checkpoint
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.tokenizer.vocab_file import save_tokenizer


@pytest.fixture
def folder(tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer) -> Path:
    """A saved checkpoint of a tiny random model."""
    model = Transformer(modern)
    init_weights(model, 0)
    save_tokenizer(tmp_path / "tok", tokenizer)
    save_checkpoint(
        tmp_path / "ck",
        model_tensors(model),
        modern,
        stage="test",
        tokenizer_dir=tmp_path / "tok",
        tokenizer_fingerprint=tokenizer.fingerprint,
        config_fingerprint="0",
    )
    return tmp_path / "ck"


def test_round_trip(folder: Path, modern: ModelConfig) -> None:
    """Guards: a tied projection saved twice, an architecture that changes on the way."""
    checkpoint = open_checkpoint(folder)
    assert checkpoint.architecture == modern
    assert "lm_head.weight" not in checkpoint.tensors
    model = Transformer(modern)
    init_weights(model, 0)
    ids = torch.arange(8)[None]
    assert torch.equal(load_model(checkpoint)(ids), model.eval()(ids))


def test_every_flipped_byte_and_truncation_is_refused(folder: Path) -> None:
    """Guards: safetensors has no checksum; a flipped weight bit would load without a word."""
    rng = random.Random(0)
    for file in sorted(folder.iterdir()):
        original = file.read_bytes()
        for _ in range(20):
            damaged = bytearray(original)
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            file.write_bytes(damaged)
            with pytest.raises(ValueError, match=str(folder)):
                open_checkpoint(folder)
        file.write_bytes(original[: len(original) // 2])
        with pytest.raises(ValueError, match=str(folder)):
            open_checkpoint(folder)
        file.write_bytes(original)
    open_checkpoint(folder)


def test_missing_and_surplus_files_are_named(folder: Path) -> None:
    """Guards: a half-copied folder taken for a whole one."""
    (folder / "surplus.txt").write_text("x")
    with pytest.raises(ValueError, match=r"surplus\.txt: not in manifest"):
        check_manifest(folder)
    (folder / "surplus.txt").unlink()
    (folder / "merges.txt").unlink()
    with pytest.raises(ValueError, match=r"merges\.txt: missing"):
        check_manifest(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match="unfinished"):
        check_manifest(folder)


def test_load_tensors_names_the_odd_one(modern: ModelConfig) -> None:
    """Guards: strict=False hiding a missing weight."""
    model = Transformer(modern)
    tensors = model_tensors(model)
    del tensors["final_norm.weight"]
    with pytest.raises(ValueError, match=r"final_norm\.weight"):
        load_tensors(model, tensors)


def test_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    """Guards: a crash in the middle of saving destroying the last good state."""
    with atomic_folder(tmp_path / "a") as temporary:
        (temporary / "x").write_text("old")

    def crash() -> None:
        with atomic_folder(tmp_path / "a") as temporary:
            (temporary / "x").write_text("new")
            raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        crash()
    check_manifest(tmp_path / "a")
    assert (tmp_path / "a" / "x").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_adapter_knows_its_base(tmp_path: Path) -> None:
    """Guards: an adapter added to weights that it was not trained on. Both hashes stand in the message."""
    folder = tmp_path / "a"
    save_adapter(
        folder,
        {"x": torch.ones(2)},
        base_sha256="b" * 64,
        lora={"lora_rank": 2},
        stage="t",
        base="pretrain",
        base_precision="nf4",
    )
    adapter = open_adapter(folder)
    assert torch.equal(adapter.tensors["x"], torch.ones(2))
    assert (adapter.lora, adapter.base, adapter.base_precision) == ({"lora_rank": 2}, "pretrain", "nf4")
    check_base(adapter, "pretrain", "b" * 64)
    with pytest.raises(ValueError, match=f"made for the base {'b' * 64}, but pretrain is {'c' * 64}"):
        check_base(adapter, "pretrain", "c" * 64)
    (folder / "adapter.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"adapter\.safetensors: damaged"):
        open_adapter(folder)
