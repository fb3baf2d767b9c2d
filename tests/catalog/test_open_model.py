"""open_model: stages, folders, and every way to get it wrong."""

import json
from pathlib import Path

import pytest
import torch

from gpt.catalog.open_model import available_stages, open_model
from gpt.checkpoint.manifest import write_manifest
from gpt.checkpoint.save_load import open_checkpoint
from gpt.model.config import ModelConfig
from gpt.quantize.methods import quantize_nearest
from gpt.quantize.quantized_linear import QuantizedLinear
from gpt.quantize.save import save_quantized
from gpt.tokenizer.tokenizer import Tokenizer, train_tokenizer
from gpt.tokenizer.vocab_file import save_tokenizer
from tests.evaluate.tiny_models import QUANTIZE_CONFIG
from tests.generate.tiny_checkpoint import save_tiny


@pytest.fixture
def root(tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer) -> Path:
    """models/ with a pretrained model."""
    save_tiny(tmp_path / "models/pretrain/checkpoint", modern, tokenizer)
    return tmp_path / "models"


def test_a_stage_and_its_folder_are_the_same_model(
    root: Path, modern: ModelConfig, tokenizer: Tokenizer
) -> None:
    """Two ways to open that drift apart."""
    by_name = open_model("pretrain", root=root)
    by_path = open_model(str(root / "pretrain/checkpoint"))
    assert by_name.name == by_path.name == "pretrain"
    assert by_name.sha256 == by_path.sha256
    assert by_name.tokenizer == tokenizer
    assert by_name.info["stage"] == "pretrain"
    assert not by_name.model.training
    ids = torch.tensor([tokenizer.encode("Shall I")])
    with torch.inference_mode():
        assert torch.equal(by_name.model(ids), by_path.model(ids))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("pretrian", "no file and no folder; did you mean pretrain\\? \\(available: pretrain;"),
        ("smollm2", "did you mean smollm2-135m\\? .*registry: smollm2-135m"),
        ("shakespeare", "got 'shakespeare', which is no stage"),
        ("", "got '', which is no stage"),
        ("../secret", "got '../secret', which is no stage, no file and no folder"),
        (
            "finetune",
            "finetune has no checkpoint yet; run `dvc repro finetune` first \\(available: pretrain\\)",
        ),
        ("scale-moe", "run `dvc repro scale@moe` first"),
    ],
)
def test_unknown_names_say_what_there_is(root: Path, reference: str, message: str) -> None:
    """A traceback, or the nearest folder opened in silence."""
    with pytest.raises(ValueError, match=message):
        open_model(reference, root=root)


def test_folders_that_are_no_checkpoint(root: Path, tmp_path: Path) -> None:
    """The folder above, an adapter without a manifest, an unfinished folder."""
    with pytest.raises(ValueError, match=r"open .*pretrain/checkpoint$"):
        open_model(str(root / "pretrain"))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no manifest\.json, so it is unfinished"):
        open_model(str(adapter))
    (root / "pretrain/checkpoint/manifest.json").unlink()
    with pytest.raises(ValueError, match="unfinished"):
        open_model(str(root / "pretrain/checkpoint"))
    assert available_stages(root) == []


def test_a_damaged_weight_is_named(root: Path) -> None:
    """One flipped bit that loads."""
    path = root / "pretrain/checkpoint/model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged"):
        open_model("pretrain", root=root)


def test_a_foreign_tokenizer_is_refused(root: Path) -> None:
    """Fluent nonsense: the right number of tokens, in another order."""
    folder = root / "pretrain/checkpoint"
    save_tokenizer(folder, train_tokenizer(["zebras quiz jazz wizards dizzy buzz fuzz" * 9], 280, "gpt2"))
    write_manifest(folder)
    with pytest.raises(ValueError, match=r"tokenizer\.json: fingerprint .* make the checkpoint again"):
        open_model("pretrain", root=root)


def test_a_vocabulary_of_another_size_is_refused(root: Path) -> None:
    """An id without a text: IndexError at the first unlucky draw."""
    folder = root / "pretrain/checkpoint"
    smaller = train_tokenizer(["zebras quiz jazz wizards dizzy buzz fuzz" * 9], 280, "gpt2")
    save_tokenizer(folder, smaller)
    info = json.loads((folder / "config.json").read_text())
    info["tokenizer_fingerprint"] = smaller.fingerprint
    (folder / "config.json").write_text(json.dumps(info))
    write_manifest(folder)
    with pytest.raises(ValueError, match="320 embeddings for 280 tokens"):
        open_model("pretrain", root=root)


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "", "gpu"])
def test_a_device_that_is_not_here_is_refused(root: Path, device: str) -> None:
    """Falling back to the CPU in silence, or torch's own traceback."""
    with pytest.raises(ValueError, match=r"device: got .* this machine has cpu"):
        open_model("pretrain", root=root, device=device)


def test_a_quantized_checkpoint_opens_packed(root: Path) -> None:
    """4-bit weights opened as floats, or not at all."""
    parent = open_checkpoint(root / "pretrain/checkpoint")
    opened = open_model("pretrain", root=root)
    quantize_nearest(opened.model, QUANTIZE_CONFIG)
    save_quantized(root / "quantize/checkpoint", opened.model, parent, QUANTIZE_CONFIG, stage="quantize")
    packed = open_model("quantize", root=root)
    assert any(isinstance(module, QuantizedLinear) for module in packed.model.modules())
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        assert torch.equal(packed.model(ids), opened.model(ids))
