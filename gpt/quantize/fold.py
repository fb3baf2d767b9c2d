"""Where AWQ's input scales go: into the module in front, so that the float model computes what it did.

W diag(s) reads x / s. The norm in front gives x / s when its gains (and bias) are divided by s; so does
up_proj for down_proj, whose input is linear in it (SwiGLU) or quadratic (squared ReLU), and v_proj for
o_proj, where each head has values of its own. Token shift mixes channel by channel and changes nothing.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer

SOURCES = {
    "attention.q_proj": "attention_norm",
    "attention.o_proj": "attention.v_proj",
    "feed_forward.gate_proj": "ffn_norm",
    "feed_forward.up_proj": "ffn_norm",
    "feed_forward.down_proj": "feed_forward.up_proj",
}
"""First linear of an input group -> the module of the block that makes the input."""


def check_foldable(config: ModelConfig) -> None:
    """Raise ValueError that names the key of an architecture whose norms take no scales."""
    if not config.norm_gain:
        raise ValueError(
            "architecture.norm_gain: false leaves awq no place for the scales of attention's and "
            "feed-forward's inputs; write quantize.method: gptq"
        )


def takes_scales(config: ModelConfig, name: str) -> bool:
    """Say whether the input of a block's linear can be scaled; if not, AWQ clips its weights alone."""
    kind = name.split(".", 2)[2]  # blocks.<i>.attention.o_proj -> attention.o_proj
    if kind == "attention.o_proj":  # shared values, or values that later blocks mix, feed several channels
        return config.n_kv_heads == config.n_heads and not config.value_residual
    if kind == "feed_forward.down_proj":  # gelu(u / s) is not gelu(u) / s
        return config.activation in ("swiglu", "relu2")
    return True


@torch.no_grad()
def fold_scales(model: Transformer, names: list[str], scales: Tensor) -> None:
    """Multiply the columns of linears that share an input by scales (in,), and divide that input by them."""
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear), name
        linear.weight *= scales
    _, block, kind = names[0].split(".", 2)
    source: Any = model.get_submodule(f"blocks.{block}.{SOURCES[kind]}")
    if isinstance(source, nn.Linear):
        squares = kind == "feed_forward.down_proj" and model.config.activation == "relu2"
        divisor = scales.sqrt() if squares else scales  # relu(u / sqrt s)^2 = relu(u)^2 / s
        source.weight /= divisor[:, None]
    else:
        divisor = scales
        source.weight /= divisor
    if getattr(source, "bias", None) is not None:
        source.bias /= divisor
