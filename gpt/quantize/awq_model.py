"""AWQ over a whole model: scale, fold, clip, round, block by block on the same packed layout as GPTQ.

Where an input's scales find no place (fold.py) its linears are clipped and rounded alone. Queries and keys
are not clipped, as in the authors' code: their product does not tolerate it. The scales of all input groups
of a block are searched on its float form.
"""

import torch
from torch import Tensor

from gpt.model.transformer import Transformer
from gpt.quantize.awq import clipped_scales, search_scales
from gpt.quantize.calibrate import CalibrationWalk, float_linear
from gpt.quantize.config import QuantizeConfig
from gpt.quantize.fold import check_foldable, fold_scales, takes_scales
from gpt.quantize.grid import group_scales, round_to_nearest, round_trip
from gpt.quantize.layer_report import LayerReport, relative_error
from gpt.quantize.layers import input_groups, replace_module
from gpt.quantize.quantized_linear import QuantizedLinear

NOT_CLIPPED = ("q_proj", "k_proj")


@torch.no_grad()
def awq_model(model: Transformer, token_ids: Tensor, config: QuantizeConfig) -> list[LayerReport]:
    """Replace a model's linears in place, calibrated on token_ids (n, T); report on each."""
    check_foldable(model.config)
    walk = CalibrationWalk(model, token_ids)
    reports = []
    for index in range(len(model.blocks)):
        groups = input_groups(model, index)
        hessians = walk.inputs([names[0] for names in groups])
        found = []
        for names, hessian in zip(groups, hessians, strict=True):
            weights = [float_linear(model, name).weight.detach().clone() for name in names]
            scales, ratio = torch.ones_like(hessian.magnitude), None  # (in,)
            if takes_scales(model.config, names[0]):
                scales, ratio = search_scales(weights, hessian.matrix, hessian.magnitude, config.group_size)
            found.append((scales, ratio, weights))
        for names, (scales, ratio, _) in zip(groups, found, strict=True):
            if ratio is not None:
                fold_scales(model, names, scales)
        for names, hessian, (scales, ratio, weights) in zip(groups, hessians, found, strict=True):
            moment = hessian.matrix / torch.outer(scales, scales)  # of the inputs as they now are
            for name, weight in zip(names, weights, strict=True):
                error = _quantize_linear(model, name, moment, config.group_size)
                nearest = round_trip(weight, group_scales(weight, config.group_size, "absmax"))
                nearest_error = relative_error(weight, nearest, hessian.matrix)
                reports.append(LayerReport(name=name, error=error, nearest_error=nearest_error, ratio=ratio))
        walk.advance()
    return reports


def _quantize_linear(model: Transformer, name: str, moment: Tensor, group_size: int) -> float:
    """Clip, round and pack one linear whose inputs are scaled already; return its relative error."""
    linear = float_linear(model, name)
    weight = linear.weight.detach()  # (out, in)
    if name.endswith(NOT_CLIPPED):
        scales = group_scales(weight, group_size, "absmax")  # (out, in/g)
    else:
        scales = clipped_scales(weight, moment, group_size)
    quantized = QuantizedLinear.from_linear(linear, round_to_nearest(weight, scales), scales)
    replace_module(model, name, quantized)
    return relative_error(weight, quantized.dequantized(), moment)
