"""What each method's checkpoint is made of: its packed layers, and who can read them.

Not here: how codes are chosen (methods.py), so that opening a model needs no calibration.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from gpt.kernels.nf4_packing import BLOCK
from gpt.model.transformer import Transformer
from gpt.quantize.config import Method
from gpt.quantize.int8_linear import Int8Linear
from gpt.quantize.layers import check_group_size, quantizable
from gpt.quantize.nf4_linear import Nf4Linear
from gpt.quantize.quantized_linear import QuantizedLinear

PackedLinear = QuantizedLinear | Int8Linear | Nf4Linear
PACKED_INT4: tuple[Method, ...] = ("gptq", "awq", "nearest")
"""Methods whose file is packed int4 (gpt/kernels/int4_packing.py): what the enclave and the exports read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """What a method's checkpoint is made of."""

    bits: int
    empty: Callable[[nn.Linear, Mapping[str, Any]], PackedLinear]
    """Make a layer of a linear's shape for weights that are read from a file."""


def _int4(linear: nn.Linear, info: Mapping[str, Any]) -> PackedLinear:
    sizes = linear.in_features, linear.out_features
    return QuantizedLinear(*sizes, group_size=info["group_size"], bias=linear.bias is not None)


def _int8(linear: nn.Linear, info: Mapping[str, Any]) -> PackedLinear:
    sizes, dynamic = (linear.in_features, linear.out_features), info["method"] == "int8_dynamic"
    return Int8Linear(*sizes, dynamic=dynamic, bias=linear.bias is not None)


def _nf4(linear: nn.Linear, info: Mapping[str, Any]) -> PackedLinear:
    return Nf4Linear(linear.in_features, linear.out_features, bias=linear.bias is not None)


LAYOUTS: dict[str, Layout] = {
    **{method: Layout(bits=4, empty=_int4) for method in PACKED_INT4},
    "int8": Layout(bits=8, empty=_int8),
    "int8_dynamic": Layout(bits=8, empty=_int8),
    "nf4": Layout(bits=4, empty=_nf4),
}


def check_sizes(model: Transformer, method: str, group_size: int) -> None:
    """Raise ValueError that names the dial when a method does not take a linear's size."""
    if method in PACKED_INT4:
        check_group_size(model, group_size)
    for name in quantizable(model):
        linear = model.get_submodule(name)
        n = linear.in_features * linear.out_features  # type: ignore[operator]
        if method == "nf4" and n % BLOCK:
            raise ValueError(
                f"quantize.method: nf4 takes whole blocks of {BLOCK} weights, {name} has {n}; write gptq"
            )


def packed_linears(model: nn.Module) -> dict[str, PackedLinear]:
    """Return a model's packed linears by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, PackedLinear)}


def check_packed_int4(model: nn.Module, wanted_by: str) -> None:
    """Raise ValueError when a model holds packed linears of another layout than int4."""
    for name, linear in packed_linears(model).items():
        if not isinstance(linear, QuantizedLinear):
            raise ValueError(
                f"quantize.method: {name} is packed as {linear.extra_repr()}; {wanted_by} reads packed int4 "
                f"({', '.join(PACKED_INT4)})"
            )
