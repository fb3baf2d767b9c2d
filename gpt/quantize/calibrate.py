"""Run GPTQ over a whole model, block by block, on calibration sequences.

Each layer sees the outputs of the layers before it as they are after quantization (Frantar et al. 2022,
section 4), so its compensation also repairs part of their error.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gpt.dataset.loader import TokenSource
from gpt.model.transformer import Transformer
from gpt.quantize.config import QuantizeConfig
from gpt.quantize.gptq import Hessian, gptq
from gpt.quantize.grid import group_scales, round_to_nearest
from gpt.quantize.layers import check_group_size, input_groups, quantizable, replace_module
from gpt.quantize.quantized_linear import QuantizedLinear

BATCH_SEQUENCES = 8
"""Calibration sequences of one forward pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerReport:
    """How one linear came out."""

    name: str
    error: float
    """||W X - Q X||^2 over ||W X||^2 on the calibration inputs."""
    nearest_error: float
    """The same for rounding to nearest with the same scales."""
    damping: float


def draw_sequences(
    sources: Sequence[tuple[TokenSource, int]], seq_len: int, generator: torch.Generator
) -> Tensor:
    """Draw sequences (n, seq_len) at random places: from each (tokens, count), count of them.

    Raises ValueError when a source is shorter than one sequence.
    """
    rows = []
    for tokens, count in sources:
        if count and len(tokens) < seq_len:
            raise ValueError(f"quantize.seq_len: {seq_len} is more than the {len(tokens)} tokens there are")
        last = len(tokens) - seq_len + 1
        for start in torch.randint(max(1, last), (count,), generator=generator).tolist():
            rows.append(torch.from_numpy(np.asarray(tokens[start : start + seq_len], dtype=np.int64)))
    return torch.stack(rows)  # (n, seq_len)


class _Taken(Exception):
    """The inputs are in; the rest of the block would be wasted."""


@torch.no_grad()
def quantize_model(model: Transformer, token_ids: Tensor, config: QuantizeConfig) -> list[LayerReport]:
    """Replace a model's linears in place, calibrated on token_ids (n, T); report on each.

    Raises ValueError for a mixture of experts, a group size that does not fit, or weights that are not
    finite.
    """
    check_group_size(model, config.group_size)
    model.eval()
    rope = model.rope(0, token_ids.shape[1])
    batches = [model.embed_tokens(ids) for ids in token_ids.split(BATCH_SEQUENCES)]  # (b, T, C) each
    firsts: list[Tensor | None] = [None] * len(batches)  # the first block's values, (b, T, G, D)
    reports = []
    for index, block in enumerate(model.blocks):
        for names in input_groups(model, index):
            hessian = _collect(model, block, names[0], batches, firsts, rope)
            for name in names:
                reports.append(_quantize_linear(model, name, hessian, config))
        outputs = [block(x, rope, first) for x, first in zip(batches, firsts, strict=True)]
        batches, firsts = [x for x, _ in outputs], [first for _, first in outputs]
    return reports


@torch.no_grad()
def quantize_nearest(model: Transformer, config: QuantizeConfig) -> None:
    """Replace a model's linears in place by rounding to nearest: the baseline, absmax scales."""
    check_group_size(model, config.group_size)
    for name in quantizable(model):
        linear = _linear(model, name)
        scales = group_scales(linear.weight, config.group_size, "absmax")
        codes = round_to_nearest(linear.weight, scales)
        replace_module(model, name, QuantizedLinear.from_linear(linear, codes, scales))


def _collect(
    model: Transformer,
    block: nn.Module,
    name: str,
    batches: list[Tensor],
    firsts: list[Tensor | None],
    rope: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Return the Hessian (in, in) of the inputs that reach one linear."""
    linear = _linear(model, name)
    hessian = Hessian(linear.in_features, linear.weight.device)

    def take(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        hessian.add(inputs[0])
        raise _Taken

    handle = linear.register_forward_pre_hook(take)
    for x, first in zip(batches, firsts, strict=True):
        with contextlib.suppress(_Taken):
            block(x, rope, first)
    handle.remove()
    assert hessian.n == sum(x.shape[0] * x.shape[1] for x in batches), f"{name} was not reached"
    return hessian.matrix


def _quantize_linear(model: Transformer, name: str, hessian: Tensor, config: QuantizeConfig) -> LayerReport:
    linear = _linear(model, name)
    weight = linear.weight.detach()  # (out, in)
    if not bool(weight.isfinite().all()):
        raise ValueError(f"{name}.weight: not finite; train the parent again")
    result = gptq(
        weight,
        hessian,
        group_size=config.group_size,
        scale=config.scale,
        act_order=config.act_order,
        damping=config.damping,
    )
    quantized = QuantizedLinear.from_linear(linear, result.codes, result.scales)
    nearest = QuantizedLinear.from_linear(linear, round_to_nearest(weight, result.scales), result.scales)
    replace_module(model, name, quantized)
    return LayerReport(
        name=name,
        error=_relative_error(weight, quantized.dequantized(), hessian),
        nearest_error=_relative_error(weight, nearest.dequantized(), hessian),
        damping=result.damping,
    )


def _relative_error(weight: Tensor, quantized: Tensor, hessian: Tensor) -> float:
    """Return tr(D H D^T) / tr(W H W^T) with D = W - Q: the squared output error over the output."""
    difference = weight - quantized
    error = ((difference @ hessian) * difference).sum()
    output = ((weight @ hessian) * weight).sum()
    return float(error / output.clamp_min(torch.finfo(output.dtype).tiny))  # 0/0: a layer without input


def _linear(model: Transformer, name: str) -> nn.Linear:
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear), f"{name} is not a float linear"
    return linear
