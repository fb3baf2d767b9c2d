"""gpt/export/gguf_file.py: read back by the package's reader and ours."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from gpt.checkpoint.gguf import half_split, neighbouring_pairs, open_gguf
from gpt.checkpoint.save_load import model_tensors
from gpt.export.gguf_file import export_gguf
from gpt.quantize.quantized_linear import QuantizedLinear
from tests.export.small_models import KINDS, TEXTS, model_of, trained_tokenizer
from tests.export.test_gptq_files import quantized


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gpt2"])
def test_what_is_written_is_read_back(tmp_path: Path, kind: str) -> None:
    """Guards: a dial, a tensor or a token lost on the way out; rows of a Llama left as they lie."""
    tokenizer = trained_tokenizer()
    model = model_of(kind, tokenizer)
    export_gguf(tmp_path / "x.gguf", model, tokenizer, "f32", name="x")
    again = open_gguf(tmp_path / "x.gguf")
    assert again.architecture == model.config
    expected = model_tensors(model)
    assert again.tensors.keys() == expected.keys()
    assert all(torch.equal(again.tensors[name], expected[name]) for name in expected)
    assert again.tokenizer == tokenizer
    assert all(again.tokenizer.encode(text) == tokenizer.encode(text) for text in TEXTS)
    assert list(tmp_path.iterdir()) == [tmp_path / "x.gguf"]


def test_gpt2_by_hand(tmp_path: Path) -> None:
    """Guards: query, key and value in another order, a Conv1D where llama.cpp wants (out, in)."""
    tokenizer = trained_tokenizer()
    model = model_of("gpt2", tokenizer)
    export_gguf(tmp_path / "x.gguf", model, tokenizer, "f32", name="x")
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    assert reader.fields["general.architecture"].contents() == "gpt2"
    tensors = {t.name: torch.from_numpy(np.array(t.data)) for t in reader.tensors}
    fused, attention = tensors["blk.1.attn_qkv.weight"], model.blocks[1].attention
    for i, name in enumerate(("q_proj", "k_proj", "v_proj")):
        assert torch.equal(fused[64 * i : 64 * (i + 1)], attention.get_submodule(name).weight)
    assert torch.equal(tensors["position_embd.weight"], model.position.weight)
    assert "output.weight" not in tensors
    assert tensors["blk.0.ffn_up.bias"].shape == (128,)


@pytest.mark.parametrize(("dtype", "bits"), [("f16", 16), ("q8_0", 8.5), ("q4_0", 4.5), ("q4_1", 5)])
def test_types_of_matrices(tmp_path: Path, dtype: str, bits: float) -> None:
    """Guards: a file called Q8_0 that holds floats; norms and routers rounded."""
    tokenizer = trained_tokenizer()
    model = model_of("mixtral", tokenizer)
    export_gguf(tmp_path / "x.gguf", model, tokenizer, dtype, name="x")  # type: ignore[arg-type]
    tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / "x.gguf").tensors}
    up = tensors["blk.0.ffn_up_exps.weight"]
    assert 8 * up.n_bytes == bits * up.n_elements
    for name in ("blk.0.attn_norm.weight", "blk.0.ffn_gate_inp.weight"):
        assert tensors[name].tensor_type == gguf.GGMLQuantizationType.F32


@pytest.mark.parametrize("group_size", [32, 64])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_our_codes_are_carried_over(tmp_path: Path, kind: str, group_size: int) -> None:
    """Guards: a GPTQ model rounded a second time on its way to Q4_0: every weight must be the same number."""
    model = quantized(kind, group_size)
    export_gguf(tmp_path / "x.gguf", model, trained_tokenizer(), "q4_0", name="x")
    again = open_gguf(tmp_path / "x.gguf").tensors
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            assert torch.equal(again[f"{name}.weight"], module.dequantized()), name


def test_what_is_refused(tmp_path: Path) -> None:
    """Guards: rounding twice in silence, a split that llama.cpp would do its own way, half a file left."""
    tokenizer = trained_tokenizer()
    with pytest.raises(ValueError, match="dtype: f16 of a model packed in 4 bits; write q4_0"):
        export_gguf(tmp_path / "x.gguf", quantized(), tokenizer, "f16", name="x")
    modern = trained_tokenizer("modern")
    with pytest.raises(ValueError, match=r"tokenize\.pattern: modern cannot be held by GGUF"):
        export_gguf(tmp_path / "x.gguf", model_of("llama", modern), modern, "f16", name="x")
    with pytest.raises(ValueError, match="group_size: 16 is no multiple of Q4_0's blocks of 32"):
        export_gguf(tmp_path / "x.gguf", quantized(group_size=16), tokenizer, "q4_0", name="x")
    assert list(tmp_path.iterdir()) == []


def test_rows_there_and_back() -> None:
    """Guards: an order that is undone by another one."""
    rows = torch.arange(24.0).view(12, 2)
    assert torch.equal(half_split(neighbouring_pairs(rows, 6), 6), rows)
