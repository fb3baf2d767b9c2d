"""gpt/checkpoint: folders that appear whole, are hashed, and resume."""

import random
import shutil
from pathlib import Path

import pytest
import torch

from gpt.checkpoint.adapter import open_adapter, save_adapter
from gpt.checkpoint.atomic import atomic_folder
from gpt.checkpoint.manifest import check_manifest
from gpt.checkpoint.resume import KEEP, ResumeState, load_resume_state, save_resume_state
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


def state(step: int) -> ResumeState:
    return ResumeState(
        step=step,
        model={"w": torch.full((3,), float(step))},
        optimizer={"adamw.step|w": torch.tensor(float(step))},
        history=[{"step": step, "loss": 1.5}],
        elapsed_s=2.0,
    )


def test_resume_takes_the_newest_whole_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: a damaged newest state ending the run instead of costing one interval."""
    assert load_resume_state(tmp_path) is None
    for step in (90, 100, 110):
        save_resume_state(tmp_path, state(step))
    assert len(list(tmp_path.glob("step-*"))) == KEEP
    newest = load_resume_state(tmp_path)
    assert newest is not None
    assert newest.step == 110
    assert torch.equal(newest.model["w"], torch.full((3,), 110.0))
    assert newest.history == [{"step": 110, "loss": 1.5}]
    file = tmp_path / "step-110" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    older = load_resume_state(tmp_path)
    assert older is not None
    assert older.step == 100
    assert "step-110" in capsys.readouterr().err


def test_a_leftover_partial_state_is_no_obstacle(tmp_path: Path) -> None:
    """Guards: the temporary folder of a killed process blocking the next save."""
    (tmp_path / ".step-7.tmp").mkdir()
    (tmp_path / ".step-7.tmp" / "model.safetensors").write_text("half")
    save_resume_state(tmp_path, state(7))
    loaded = load_resume_state(tmp_path)
    assert loaded is not None
    assert loaded.step == 7


def test_full_disk_is_refused_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: the last good state pruned, then the new one cut off by a full disk."""
    save_resume_state(tmp_path, state(1))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(OSError, match=r"needs 16 bytes, 10 are free"):
        save_resume_state(tmp_path, state(2))
    loaded = load_resume_state(tmp_path)
    assert loaded is not None
    assert loaded.step == 1


def test_adapter_knows_its_base(tmp_path: Path) -> None:
    """Guards: an adapter added to weights that it was not trained on."""
    save_adapter(tmp_path / "a", {"x": torch.ones(2)}, base_sha256="b" * 64, lora={"lora_rank": 2}, stage="t")
    tensors, info = open_adapter(tmp_path / "a", "b" * 64)
    assert torch.equal(tensors["x"], torch.ones(2))
    assert info["lora"] == {"lora_rank": 2}
    with pytest.raises(ValueError, match="made for the base bbbb"):
        open_adapter(tmp_path / "a", "c" * 64)
