"""GPTQ over a whole model: within a block too, each input group sees the groups before it quantized."""

import torch
from torch import Tensor

from gpt.model.transformer import Transformer
from gpt.quantize.calibrate import CalibrationWalk, float_linear
from gpt.quantize.config import QuantizeConfig
from gpt.quantize.gptq import gptq
from gpt.quantize.grid import round_trip
from gpt.quantize.layer_report import LayerReport, relative_error
from gpt.quantize.layers import input_groups, replace_module
from gpt.quantize.quantized_linear import QuantizedLinear


@torch.no_grad()
def gptq_model(model: Transformer, token_ids: Tensor, config: QuantizeConfig) -> list[LayerReport]:
    """Replace a model's linears in place, calibrated on token_ids (n, T); report on each."""
    walk = CalibrationWalk(model, token_ids)
    reports = []
    for index in range(len(model.blocks)):
        for names in input_groups(model, index):
            hessian = walk.inputs(names[:1])[0].matrix  # (in, in)
            reports += [_quantize_linear(model, name, hessian, config) for name in names]
        walk.advance()
    return reports


def _quantize_linear(model: Transformer, name: str, hessian: Tensor, config: QuantizeConfig) -> LayerReport:
    linear = float_linear(model, name)
    weight = linear.weight.detach()  # (out, in)
    result = gptq(
        weight,
        hessian,
        group_size=config.group_size,
        scale=config.scale,
        act_order=config.act_order,
        damping=config.damping,
    )
    quantized = QuantizedLinear.from_linear(linear, result.codes, result.scales)
    replace_module(model, name, quantized)
    return LayerReport(
        name=name,
        error=relative_error(weight, quantized.dequantized(), hessian),
        nearest_error=relative_error(weight, round_trip(weight, result.scales), hessian),
        damping=result.damping,
    )
