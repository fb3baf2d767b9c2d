"""Every method: made one way, saved, opened, refused by its key."""

import dataclasses
import typing
from pathlib import Path

import pytest
import torch

from gpt.checkpoint.save_load import open_checkpoint
from gpt.enclave.guest.weights import read_checkpoint
from gpt.export.gguf_file import export_gguf
from gpt.export.gptq_files import export_gptq
from gpt.export.hugging_face import export_hugging_face
from gpt.kernels.nf4_packing import dequantize, quantize
from gpt.quantize.config import Method
from gpt.quantize.int8_linear import Int8Linear
from gpt.quantize.layers import quantizable
from gpt.quantize.layouts import LAYOUTS, PACKED_INT4, packed_linears
from gpt.quantize.load import load_quantized
from gpt.quantize.methods import quantize_model
from gpt.quantize.nf4_linear import Nf4Linear
from gpt.quantize.save import save_quantized, size_metrics
from tests.evaluate.tiny_models import QUANTIZE_CONFIG, save_tiny, tiny_model, tiny_token_ids, tiny_tokenizer

METHODS = typing.get_args(Method)


def made(method: Method, folder: Path) -> Path:
    """Write a tiny model by a method."""
    parent = open_checkpoint(save_tiny(folder / "parent", tiny_model()))
    config = dataclasses.replace(QUANTIZE_CONFIG, method=method)
    model = tiny_model()
    quantize_model(model, tiny_token_ids(), config)
    save_quantized(folder / method, model, parent, config, stage="quantize")
    return folder / method


@pytest.mark.parametrize("method", METHODS)
def test_the_disk_keeps_every_method(tmp_path: Path, method: Method) -> None:
    """Bit for bit, packed in memory as in the file, and near the parent.

    Guards a method that is opened as another one, a buffer that is not saved, and a layer that unpacks.
    """
    loaded = load_quantized(open_checkpoint(made(method, tmp_path)))
    model = tiny_model()
    with torch.no_grad():
        want = model(tiny_token_ids())
    quantize_model(model, tiny_token_ids(), dataclasses.replace(QUANTIZE_CONFIG, method=method))
    with torch.no_grad():
        got = loaded(tiny_token_ids())
        assert torch.equal(got, model(tiny_token_ids()))
    near = 0.05 if LAYOUTS[method].bits == 8 else 0.4
    assert 0 < float((got - want).norm() / want.norm()) < near
    assert list(packed_linears(loaded)) == quantizable(loaded)
    dense = sum(m.in_features * m.out_features * 4 for m in packed_linears(loaded).values())
    packed = sum(b.nbytes for m in packed_linears(loaded).values() for b in m.buffers())
    assert packed < dense / (3.5 if LAYOUTS[method].bits == 8 else 6)


def test_linear_bytes_by_hand(tmp_path: Path) -> None:
    """Of a block q and o (32, 32), k and v (16, 32), gate and up (64, 32), down (32, 64): 9,216 weights.

    Two blocks in int8: 512 rows: 18,432 + 4 * 512 = 20,480 bytes. Guards a size that counts one part alone.
    """
    parent = open_checkpoint(save_tiny(tmp_path / "parent", tiny_model()))
    child = open_checkpoint(made("int8", tmp_path / "child"))
    assert size_metrics(parent, child)["linear_bytes_after"] == 20480


def test_int8_weight_by_hand() -> None:
    """Row (1.27, -0.5): scale 0.01, codes 127 and -50. Guards one scale for the matrix (row 2 has 0.1)."""
    linear = torch.nn.Linear(2, 2, bias=False)
    linear.weight.data = torch.tensor([[1.27, -0.5], [12.7, 0.04]])
    packed = Int8Linear.from_linear(linear, dynamic=False)
    assert packed.codes.tolist() == [[127, -50], [127, 0]]
    assert packed.scales.tolist() == pytest.approx([0.01, 0.1])


def test_nf4_is_the_packing_of_adapters() -> None:
    """The weight of the whole-model method is the kernel's, which is tested against bitsandbytes."""
    linear = torch.nn.Linear(64, 48)
    packed = Nf4Linear.from_linear(linear)
    assert torch.equal(packed.dequantized(), dequantize(quantize(linear.weight)))
    x = torch.randn(3, 64)
    torch.testing.assert_close(packed(x), x @ packed.dequantized().T + linear.bias)


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("int8", {"method": "int3"}, r"quantization.method: got 'int3'; gptq, awq"),
        ("int8", {"bits": 4}, r"quantization.bits: 4 bits; int8 has 8"),
        ("nf4", {"group_size": 32}, r"quantization.group_size: nf4 has no such key"),
        ("nf4", {"zero": 1}, r"quantization.zero: nf4 has no such key"),
        ("nf4", {"method": "int8", "bits": 8}, r"tensor '.*' is missing"),
        ("gptq", {"method": "nf4", "group_size": None}, r"group_size: nf4 has no such key"),
    ],
)
def test_a_wrong_key_is_refused(
    tmp_path: Path, method: Method, changes: dict[str, object], message: str
) -> None:
    """Guards weights that are read by the rules of another method."""
    checkpoint = open_checkpoint(made(method, tmp_path))
    info = {**checkpoint.info, "quantization": {**checkpoint.info["quantization"], **changes}}
    with pytest.raises(ValueError, match=message):
        load_quantized(dataclasses.replace(checkpoint, info=info))


def test_sizes_that_nf4_does_not_take() -> None:
    """By hand: q_proj (12, 12) has 144 weights. Guards a last block that is cut short or padded."""
    model = tiny_model(dim=12, n_heads=2, n_kv_heads=1, ffn_dim=10)
    with pytest.raises(ValueError, match=r"quantize.method: nf4 takes whole blocks of 64 weights, .* has"):
        quantize_model(model, tiny_token_ids(), dataclasses.replace(QUANTIZE_CONFIG, method="nf4"))


@pytest.mark.parametrize("method", METHODS)
def test_the_guest_and_the_exports_say_what_they_cannot_read(tmp_path: Path, method: Method) -> None:
    """Guards an image, or a GPTQ file, of weights that its reader takes for something else."""
    folder = made(method, tmp_path)
    model, tokenizer = load_quantized(open_checkpoint(folder)), tiny_tokenizer()
    with pytest.raises(ValueError, match=r"q_proj is packed as"):
        export_hugging_face(tmp_path / "hf", model, tokenizer, "fp32")
    if method in PACKED_INT4:
        config, arrays = read_checkpoint(folder)
        name = quantizable(model)[0]
        assert config["quantization"]["method"] == method
        assert torch.equal(
            torch.from_numpy(arrays[f"{name}.weight"]), model.get_submodule(name).dequantized()
        )
        return
    with pytest.raises(ValueError, match=rf"quantization.method: '{method}' .* reads packed int4"):
        read_checkpoint(folder)
    for export, kind in ((export_gptq, "fp16"), (export_gguf, "q4_0")):
        options = {"name": "x"} if export is export_gguf else {}
        with pytest.raises(ValueError, match=r"quantize.method: .*q_proj is packed as .*reads packed int4"):
            export(tmp_path / "out", model, tokenizer, kind, **options)
