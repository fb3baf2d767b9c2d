"""gpt/export/gptq_files.py: the layout by hand, and what a reader makes of it."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gpt.checkpoint.safetensors import read_safetensors
from gpt.export.gptq_files import export_gptq, gptq_tensors, pack_words
from gpt.model.transformer import Transformer
from gpt.quantize.grid import group_scales, round_to_nearest
from gpt.quantize.layers import quantizable, replace_module
from gpt.quantize.quantized_linear import QuantizedLinear
from tests.export.small_models import model_of, trained_tokenizer


def quantized(kind: str = "llama", group_size: int = 32) -> Transformer:
    """A model with every linear rounded to 4 bits."""
    model = model_of(kind, trained_tokenizer())
    for name in quantizable(model):
        linear = model.get_submodule(name)
        assert isinstance(linear, torch.nn.Linear)
        scales = group_scales(linear.weight.detach(), group_size, "absmax")
        codes = round_to_nearest(linear.weight.detach(), scales)
        replace_module(model, name, QuantizedLinear.from_linear(linear, codes, scales))
    return model


def read_gptq(parts: dict[str, Tensor]) -> Tensor:
    """A reader written from the format's description alone: weights (out, in)."""
    words, zero_words = parts["qweight"].long(), parts["qzeros"].long()
    n_in, n_out = 8 * words.shape[0], words.shape[1]
    weight = torch.zeros(n_out, n_in)
    for i in range(n_in):
        group = int(parts["g_idx"][i])
        for o in range(n_out):
            code = (int(words[i // 8, o]) >> (4 * (i % 8))) & 15
            zero = ((int(zero_words[group, o // 8]) >> (4 * (o % 8))) & 15) + 1
            weight[o, i] = float(parts["scales"][group, o]) * (code - zero)
    return weight


def test_words_by_hand() -> None:
    """Guards: the nibbles turned over. 0 stands lowest; a word with 15 in its highest bits is negative."""
    column = torch.tensor([[0], [1], [2], [3], [4], [5], [6], [7]], dtype=torch.uint8)
    assert pack_words(column).tolist() == [[0x76543210]]
    high = torch.tensor([[0]] * 7 + [[15]], dtype=torch.uint8)
    assert pack_words(high).tolist() == [[0xF0000000 - 2**32]]


def test_a_reader_finds_our_weights() -> None:
    """Guards: codes along the wrong axis, zeros off by one, groups of another size."""
    linear = quantized().get_submodule("blocks.0.feed_forward.down_proj")
    assert isinstance(linear, QuantizedLinear)
    parts = gptq_tensors("x", linear)
    assert {n: tuple(t.shape) for n, t in parts.items()} == {
        "qweight": (16, 64),
        "qzeros": (4, 8),
        "scales": (4, 64),
        "g_idx": (128,),
    }
    assert parts["qzeros"].unique().tolist() == [0x77777777]
    assert torch.equal(read_gptq(parts), linear.dequantized())


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_the_folder(tmp_path: Path, kind: str) -> None:
    """Guards: a weight written twice, packed and as a float, and settings that stand in one of two places."""
    export_gptq(tmp_path / "gptq", quantized(kind), trained_tokenizer(), "fp16")
    config = json.loads((tmp_path / "gptq/config.json").read_text())
    settings = json.loads((tmp_path / "gptq/quantize_config.json").read_text())
    assert config["quantization_config"] == settings
    assert (settings["bits"], settings["group_size"], settings["sym"]) == (4, 32, True)
    tensors = read_safetensors(tmp_path / "gptq/model.safetensors")
    prefix = "model.layers.1.self_attn.q_proj"
    assert {n.removeprefix(f"{prefix}.") for n in tensors if n.startswith(f"{prefix}.")} == {
        "qweight",
        "qzeros",
        "scales",
        "g_idx",
    }
    assert tensors["model.embed_tokens.weight"].dtype == torch.float16


def test_what_is_refused(tmp_path: Path) -> None:
    """Guards: a float model called quantized; sizes that load nowhere."""
    tokenizer = trained_tokenizer()
    with pytest.raises(ValueError, match="model: its weights are floats"):
        export_gptq(tmp_path / "a", model_of("llama", tokenizer), tokenizer, "fp16")
    odd = QuantizedLinear(32, 40, group_size=32, bias=False)
    with pytest.raises(ValueError, match="q_proj: 32 inputs and 40 outputs"):
        gptq_tensors("q_proj", odd)
