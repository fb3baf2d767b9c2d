"""One tiny model of each kind that the engine must serve. Not a test."""

import dataclasses
from typing import Any

import torch

from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from gpt.quantize.grid import group_scales, round_to_nearest
from gpt.quantize.layers import quantizable, replace_module
from gpt.quantize.quantized_linear import QuantizedLinear
from tests.model.every_part import make

BASE = ModelConfig(
    vocab_size=97, max_seq_len=48, dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=48, qk_norm=True
)
GPT2: dict[str, Any] = {
    "norm": "layernorm",
    "activation": "gelu",
    "position": "learned",
    "bias": True,
    "qk_norm": False,
    "n_kv_heads": 4,
}
LOOKS_BACK: dict[str, Any] = {
    "token_shift": True,
    "value_residual": True,
    "bigram_rows": 500,
    "norm_gain": False,
    "n_layers": 3,
}
KINDS: dict[str, dict[str, Any]] = {
    "modern": {},
    "gpt2": GPT2,
    "looks back": LOOKS_BACK,
    "looks back, learned positions": LOOKS_BACK | {"position": "learned"},
    "mixture": {"n_experts": 4},
    "softcap, untied, one kv head": {"logit_softcap": 5.0, "tie_embeddings": False, "n_kv_heads": 1},
    "4 bits": {},
}


def model_of(kind: str) -> Transformer:
    """Return the model of a kind: random weights, every part at work."""
    torch.set_num_threads(1)  # a matrix this small is slower on two
    model = make(dataclasses.replace(BASE, **KINDS[kind]))
    if kind == "4 bits":
        for name in quantizable(model):
            linear = model.get_submodule(name)
            assert isinstance(linear, torch.nn.Linear)
            scales = group_scales(linear.weight.detach(), 16, "absmax")
            codes = round_to_nearest(linear.weight.detach(), scales)
            replace_module(model, name, QuantizedLinear.from_linear(linear, codes, scales))
    return model
