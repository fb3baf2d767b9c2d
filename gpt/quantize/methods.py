"""The methods by name: the one way to make a quantized model."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from gpt.model.transformer import Transformer
from gpt.quantize.awq_model import awq_model
from gpt.quantize.calibrate import float_linear
from gpt.quantize.config import QuantizeConfig
from gpt.quantize.gptq_model import gptq_model
from gpt.quantize.grid import group_scales, round_to_nearest
from gpt.quantize.int8_linear import Int8Linear
from gpt.quantize.layer_report import LayerReport
from gpt.quantize.layers import quantizable, replace_module
from gpt.quantize.layouts import PackedLinear, check_sizes
from gpt.quantize.nf4_linear import Nf4Linear
from gpt.quantize.quantized_linear import QuantizedLinear


@torch.no_grad()
def quantize_model(model: Transformer, token_ids: Tensor, config: QuantizeConfig) -> list[LayerReport]:
    """Replace a model's linears in place by config.method; gptq and awq calibrate on token_ids (n, T).

    Reports on each linear of a calibrated method; the others report nothing. Raises ValueError for a mixture
    of experts, a size that the method does not take, or weights that are not finite.
    """
    check_sizes(model, config.method, config.group_size)
    model.eval()
    if config.method == "gptq":
        return gptq_model(model, token_ids, config)
    if config.method == "awq":
        return awq_model(model, token_ids, config)
    for name in quantizable(model):
        replace_module(model, name, _round(float_linear(model, name), config))
    return []


def quantize_nearest(model: Transformer, config: QuantizeConfig) -> None:
    """Replace a model's linears in place by rounding to nearest: the baseline of 4 bits."""
    quantize_model(model, torch.empty(0, 0, dtype=torch.long), replace(config, method="nearest"))


def _round(linear: nn.Linear, config: QuantizeConfig) -> PackedLinear:
    """Return a linear packed by a method that looks at its weights alone."""
    if config.method == "nf4":
        return Nf4Linear.from_linear(linear)
    if config.method == "nearest":
        scales = group_scales(linear.weight, config.group_size, "absmax")
        return QuantizedLinear.from_linear(linear, round_to_nearest(linear.weight, scales), scales)
    return Int8Linear.from_linear(linear, dynamic=config.method == "int8_dynamic")
