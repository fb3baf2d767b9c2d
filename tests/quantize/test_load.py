"""Quantized checkpoints: written, read back, refused."""

import dataclasses
from pathlib import Path

import pytest
import torch

from gpt.checkpoint.save_load import Checkpoint, open_checkpoint
from gpt.quantize.load import load_quantized
from gpt.quantize.methods import quantize_nearest
from gpt.quantize.save import save_quantized, size_metrics
from tests.evaluate.tiny_models import QUANTIZE_CONFIG, save_tiny, tiny_model, tiny_token_ids

NAME = "blocks.0.attention.q_proj"


@pytest.fixture
def parent(tmp_path: Path) -> Checkpoint:
    return open_checkpoint(save_tiny(tmp_path / "parent", tiny_model()))


@pytest.fixture
def folder(tmp_path: Path, parent: Checkpoint) -> Path:
    model = tiny_model()
    quantize_nearest(model, QUANTIZE_CONFIG)
    save_quantized(tmp_path / "quantized", model, parent, QUANTIZE_CONFIG, stage="quantize")
    return tmp_path / "quantized"


def test_logits_survive_the_disk(folder: Path) -> None:
    """Bit for bit: guards scales saved after another rounding, and a transposed layout."""
    model = tiny_model()
    quantize_nearest(model, QUANTIZE_CONFIG)
    loaded = load_quantized(open_checkpoint(folder))
    with torch.no_grad():
        assert torch.equal(loaded(tiny_token_ids()), model(tiny_token_ids()))


def test_layout_and_sizes_are_the_documented_ones(folder: Path, parent: Checkpoint) -> None:
    """By hand: 32 bits against 4 + 16/16 a weight is a ratio of 6.4; names, dtypes of architecture.md."""
    child = open_checkpoint(folder)
    assert child.tensors[f"{NAME}.packed"].dtype == torch.uint8
    assert child.tensors[f"{NAME}.packed"].shape == (32, 16)
    assert child.tensors[f"{NAME}.scales"].dtype == torch.float16
    assert child.tensors[f"{NAME}.scales"].shape == (32, 2)
    assert f"{NAME}.weight" not in child.tensors
    others = [n for n in child.tensors if not n.endswith((".packed", ".scales"))]
    assert {child.tensors[n].dtype for n in others} == {torch.float32}
    info = child.info["quantization"]
    assert (info["method"], info["bits"], info["group_size"]) == ("gptq", 4, 16)
    assert child.info["parent_sha256"] == parent.sha256
    assert size_metrics(parent, child)["linear_ratio"] == 6.4


def test_a_flipped_byte_is_refused(folder: Path) -> None:
    """Guards a damaged weight that loads: 4-bit codes have no invalid value to betray it."""
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"model.safetensors: damaged"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{NAME}.scales"), f"{NAME}.scales' is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "'extra' is not of this model"),
        (lambda t: t.update({f"{NAME}.packed": torch.zeros(32, 8, dtype=torch.uint8)}), "q_proj.packed' is"),
        (lambda t: t.update({f"{NAME}.scales": torch.ones(32, 2)}), "float16 .* is expected"),
        (lambda t: t[f"{NAME}.scales"].fill_(float("inf")), f"{NAME}.scales' is not finite"),
    ],
)
def test_a_wrong_tensor_is_named(folder: Path, change: object, message: str) -> None:
    """Guards strict=False, under which a missing tensor stays at its initial value."""
    checkpoint = open_checkpoint(folder)
    change(checkpoint.tensors)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        load_quantized(checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 8}, "8 bits"),
        ({"group_size": 0}, "group_size: got 0"),
        ({"group_size": 24}, "24 does not divide"),
        ({"linears": ["blocks.9.x"]}, "linears"),
    ],
)
def test_wrong_quantization_info_is_refused(folder: Path, changes: dict[str, object], message: str) -> None:
    """Guards weights read on another grid than they were written on."""
    checkpoint = open_checkpoint(folder)
    info = {**checkpoint.info, "quantization": {**checkpoint.info["quantization"], **changes}}
    with pytest.raises(ValueError, match=message):
        load_quantized(dataclasses.replace(checkpoint, info=info))


def test_a_float_checkpoint_is_refused(parent: Checkpoint) -> None:
    """Guards a crash on null where the user gave the parent's folder."""
    with pytest.raises(ValueError, match="not quantized"):
        load_quantized(parent)
