"""x W^T with W packed in 4 bits on a CPU, by backend name. What is named and unavailable raises.

reference  unpacks a block of rows and multiplies in float32: the oracle, and what stages measure with
torch      PyTorch's own int4 operator, x and scales in bf16; groups of 32, 64, 128 or 256, outputs a multiple
           of 16; more than a few rows go by the reference, which is then faster
c          int4_cpu.c, x rounded to 8 bits; Linux, x86-64 with AVX2, a compiler, groups of a multiple of 8
auto       the first of c, torch, reference that takes the model

Docs and measurements: docs/decisions/cpu_int4_kernel.md. Not here: the GPU (w4a16.py).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from gpt.kernels.compiled import instruction_set, load
from gpt.kernels.int4_cpu import CpuWeights, step_of_group
from gpt.kernels.int4_matmul import int4_matmul
from gpt.kernels.int4_packing import dequantize, unpack_int4

Shape = tuple[int, int, int]
"""Outputs, inputs and group size of a matrix."""
TORCH_GROUPS = (32, 64, 128, 256)
TORCH_ROWS = 64
"""Most rows of x that PyTorch's operator gets: each row costs it the same."""


class Weights(Protocol):
    """A matrix in a backend's own form."""

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""

    def values(self) -> Tensor:
        """Return the weights as numbers, float32 (out, in)."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return (..., out) of x (..., in), in x's dtype."""


class ReferenceWeights:
    """The saved layout, by int4_matmul."""

    def __init__(self, packed: Tensor, scales: Tensor) -> None:
        self.packed, self.scales = packed, scales

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""
        return self.packed.nbytes + self.scales.nbytes

    def values(self) -> Tensor:
        """Return float32 (out, in)."""
        return dequantize(self.packed, self.scales)

    def __call__(self, x: Tensor) -> Tensor:
        """Return (..., out) of x (..., in)."""
        return int4_matmul(x, self.packed, self.scales)


class TorchWeights(ReferenceWeights):
    """PyTorch's layout beside the saved one, which stays for gradients."""

    def __init__(self, packed: Tensor, scales: Tensor) -> None:
        super().__init__(packed, scales)
        check_torch((packed.shape[0], 2 * packed.shape[1], 2 * packed.shape[1] // scales.shape[1]))
        self.group_size = 2 * packed.shape[1] // scales.shape[1]
        codes = unpack_int4(packed).int()
        self.units = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
        self.grids = torch.stack((scales.bfloat16(), torch.zeros_like(scales, dtype=torch.bfloat16)), -1)
        self.grids = self.grids.transpose(0, 1).contiguous()  # (in/g, out, 2): scale, and the value of code 8

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""
        return super().nbytes + self.units.nbytes + self.grids.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """Return (..., out) of x (..., in); where x wants a gradient, W is unpacked."""
        if torch.is_grad_enabled() and x.requires_grad:
            return super().__call__(x)
        rows = x.reshape(-1, x.shape[-1])  # (M, in)
        if len(rows) > TORCH_ROWS:
            return super().__call__(x)
        rows = rows.bfloat16().contiguous()  # in any other type the operator is some forty times slower
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.units, self.group_size, self.grids)
        return y.view(*x.shape[:-1], -1).to(x.dtype)


def check_reference(_: Shape) -> None:
    """Take every shape."""


def check_torch(shape: Shape) -> None:
    """Raise ValueError for a shape that PyTorch's operator does not take."""
    out, _, group = shape
    if group not in TORCH_GROUPS or out % 16:
        raise ValueError(
            f"int4_backend: torch needs groups of {', '.join(map(str, TORCH_GROUPS))} and a multiple of 16 "
            f"outputs, got groups of {group} and {out} outputs; choose c or reference"
        )


def check_c(shape: Shape) -> None:
    """Raise ValueError where int4_cpu.c cannot be compiled or does not take a shape."""
    step_of_group(shape[2])
    load(instruction_set())


BACKENDS: dict[str, tuple[Callable[[Shape], None], Callable[[Tensor, Tensor], Weights]]] = {
    "c": (check_c, CpuWeights.from_packed),
    "torch": (check_torch, TorchWeights),
    "reference": (check_reference, ReferenceWeights),
}
"""By name, the best first: what raises for a shape it does not take, and what makes the weights."""


def choose_backend(name: str, shapes: Sequence[Shape]) -> tuple[str, str]:
    """Return the backend for a model's matrices, and why not a better one ("" if it is the best).

    Raises ValueError for an unknown name and for a named backend that is unavailable.
    """
    if name not in ("auto", *BACKENDS):
        raise ValueError(f"int4_backend: got {name!r}; choose one of auto, {', '.join(BACKENDS)}")
    reasons = []
    for candidate in BACKENDS if name == "auto" else (name,):
        try:
            for shape in shapes:
                BACKENDS[candidate][0](shape)
        except ValueError as error:
            if name != "auto":
                raise
            reasons.append(str(error))
            continue
        return candidate, "; ".join(reasons)
    raise AssertionError("reference takes everything")
