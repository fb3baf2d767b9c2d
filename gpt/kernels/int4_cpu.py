"""Weights packed in 4 or 8 bits for int4_cpu.c, and x W^T by it: the form that runs.

Outputs lie in blocks of 16, one a lane of a register. Of a block, unit j holds for every output 8 inputs in
4 bits, byte 4 o + i the inputs 8 j + i (low nibble) and 8 j + 4 + i (high), or 4 inputs in 8 bits, code -
128. Scales stay fp16, (blocks, in/g, 16). x is rounded to 8 bits for every step of inputs, symmetric, as
llama.cpp's Q8 blocks are; sums are exact whole numbers within a step. A row's result is the same bits
whatever the number of rows or threads. Not here: the saved layout (int4_packing.py), choosing a backend
(int4_backends.py).
"""

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.kernels.compiled import instruction_set, load
from gpt.kernels.int4_packing import ZERO_CODE, unpack_int4

LANES = 16
"""Outputs of a block."""
LONGEST_STEP = 32
"""Most inputs of x that share one 8-bit scale."""
ZERO_BYTE = 128
"""The code of 0 in 8 bits."""
MAX_BYTE = 127


class Matrix(ctypes.Structure):
    """struct matrix of int4_cpu.c."""

    _fields_ = (
        ("units", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("out", "inputs", "group", "step", "bits")),
    )


def step_of_group(group_size: int) -> int:
    """Return how many inputs of x share a scale: the largest part of a group that int4_cpu.c takes.

    Raises ValueError for groups that are no multiple of 8.
    """
    if group_size % 8:
        raise ValueError(
            f"int4_backend: c needs groups of a multiple of 8, got {group_size}; choose torch or reference"
        )
    return max(n for n in range(8, LONGEST_STEP + 1, 8) if group_size % n == 0)


class CpuWeights:
    """One matrix in the runtime form."""

    def __init__(self, codes: Tensor, scales: Tensor, *, bits: int, target: str | None = None) -> None:
        """Take codes uint8 (out, in) and scales fp16 (out, in/g); of 0 the code is 8 in 4 bits, 128 in 8.

        `target` names an instruction set, by default the best there is. Raises ValueError as
        `instruction_set`, `load` and `step_of_group` do.
        """
        assert bits in (4, 8), bits
        self.bits, (self.out_features, self.in_features) = bits, codes.shape
        self.group_size = self.in_features // scales.shape[1]
        self.step = step_of_group(self.group_size)
        self.library = load(target or instruction_set())
        blocks = -(-self.out_features // LANES)
        padding = (0, 0, 0, blocks * LANES - self.out_features)
        codes = F.pad(codes, padding, value=ZERO_CODE if bits == 4 else ZERO_BYTE)
        if bits == 4:
            halves = codes.view(blocks, LANES, -1, 2, 4).permute(3, 0, 2, 1, 4)  # (2, blocks, in/8, 16, 4)
            self.units = (halves[0] | (halves[1] << 4)).contiguous()  # (blocks, in/8, 16, 4)
        else:
            self.units = (
                codes.view(blocks, LANES, -1, 4).transpose(1, 2).contiguous()
            )  # (blocks, in/4, 16, 4)
        lanes = F.pad(scales, padding).view(blocks, LANES, -1)
        self.scales = lanes.transpose(1, 2).contiguous()  # (blocks, in/g, 16)
        self.matrix = Matrix(
            self.units.data_ptr(),
            self.scales.data_ptr(),
            self.out_features,
            self.in_features,
            self.group_size,
            self.step,
            bits,
        )

    @classmethod
    def from_packed(cls, packed: Tensor, scales: Tensor, *, target: str | None = None) -> "CpuWeights":
        """Take the saved layout: packed (out, in/2), scales (out, in/g)."""
        return cls(unpack_int4(packed), scales, bits=4, target=target)

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""
        return self.units.nbytes + self.scales.nbytes

    def codes(self) -> Tensor:
        """Return the codes again, uint8 (out, in)."""
        blocks = len(self.units)
        if self.bits == 4:
            halves = torch.stack((self.units & 15, self.units >> 4), dim=3)  # (blocks, in/8, 16, 2, 4)
            codes = halves.transpose(1, 2).reshape(blocks * LANES, -1)
        else:
            codes = self.units.transpose(1, 2).reshape(blocks * LANES, -1)
        return codes[: self.out_features]

    def values(self) -> Tensor:
        """Return the weights as numbers, float32 (out, in)."""
        scales = self.scales.transpose(1, 2).reshape(-1, self.scales.shape[1])[: self.out_features].float()
        zero = ZERO_CODE if self.bits == 4 else ZERO_BYTE
        groups = self.codes().unflatten(1, (-1, self.group_size)).float() - zero  # (out, in/g, g)
        return (groups * scales[:, :, None]).flatten(1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return (..., out) of x (..., in), in x's dtype; where x wants a gradient, W is unpacked."""
        assert x.shape[-1] == self.in_features, (x.shape, self.in_features)
        if torch.is_grad_enabled() and x.requires_grad:
            return F.linear(x, self.values().to(x.dtype))
        rows = x.reshape(-1, self.in_features).float().contiguous()  # (M, in)
        n, steps = len(rows), self.in_features // self.step
        out = torch.empty(n, self.out_features)
        scratch = torch.empty(n * (self.in_features + 8 * steps), dtype=torch.uint8)
        scales = scratch.data_ptr()
        self.library.linear(
            ctypes.byref(self.matrix),
            ctypes.c_void_p(rows.data_ptr()),
            ctypes.c_int64(n),
            ctypes.c_void_p(out.data_ptr()),
            ctypes.c_void_p(scales + 8 * n * steps),
            ctypes.c_void_p(scales),
            ctypes.c_void_p(scales + 4 * n * steps),
            ctypes.c_int64(torch.get_num_threads()),
        )
        return out.view(*x.shape[:-1], self.out_features).to(x.dtype)


def round_to_bytes(weight: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """Return codes uint8 (out, in) with 128 for 0, and scales fp16 (out, in/g), of weight (out, in)."""
    groups = weight.float().unflatten(1, (-1, group_size))  # (out, in/g, g)
    scales = (groups.abs().amax(-1) / MAX_BYTE).half()  # (out, in/g)
    scales = torch.where(scales == 0, torch.ones_like(scales), scales)
    codes = (groups / scales.float()[:, :, None]).round().clamp(-MAX_BYTE, MAX_BYTE) + ZERO_BYTE
    return codes.to(torch.uint8).flatten(1), scales


def largest_group(n: int, most: int = 64) -> int:
    """Return the largest multiple of 8, at most `most`, that divides n inputs; raises ValueError for none."""
    fitting = [size for size in range(8, most + 1, 8) if n % size == 0]
    if not fitting:
        raise ValueError(f"int4_backend: c needs widths of a multiple of 8, got {n}")
    return fitting[-1]
