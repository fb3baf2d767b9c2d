"""x @ W.T with W in int8, one scale an output channel; activations in full precision, or int8 as well.

Symmetric: a value is code * scale, code in -127..127. On a CPU both ways multiply integers with
torch._int_mm (oneDNN; VNNI where the CPU has it), which reads one byte a weight. Full-precision activations
get there as three digits in base 254, 24 bits of a row's largest magnitude, as exact as float32's own
mantissa beside that magnitude; many rows are worth unpacking W instead. Elsewhere the integer product is
emulated in float32, in blocks of inputs that are short enough to be exact.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_CODE = 127
BASE = 2 * MAX_CODE
"""Of the digits of an activation: each is in -127..127."""
N_DIGITS = 3
DIGIT_ROWS = 16
"""Most rows of x on a CPU that are worth digits instead of unpacked weights."""
EXACT_INPUTS = 2**24 // MAX_CODE**2
"""Products of two codes that float32 sums without rounding."""
SMALLEST = 1.0e-38
"""A row of zeros is divided by this."""


def int8_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes int8 (n, in) and scales float32 (n, 1) of x (n, in), by each row's largest magnitude."""
    x = x.float()
    scales = x.abs().amax(dim=1, keepdim=True) / MAX_CODE  # (n, 1)
    codes = (x / scales.clamp_min(SMALLEST)).round().to(torch.int8)
    return codes, scales


def int8_product(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b.T, float32 (n, out), of int8 a (n, in) and b (out, in); exact before that rounding."""
    if a.device.type == "cpu":
        return torch._int_mm(a, b.T).float()
    return emulated_product(a, b)


def emulated_product(a: Tensor, b: Tensor) -> Tensor:
    """Return int8_product where there is no integer one."""
    blocks = zip(a.split(EXACT_INPUTS, dim=1), b.split(EXACT_INPUTS, dim=1), strict=True)
    return torch.stack([F.linear(x.float(), w.float()).double() for x, w in blocks]).sum(dim=0).float()


def int8_dynamic_linear(x: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """Return (..., out) of x (..., in), each of its rows rounded to int8; codes (out, in), scales (out,)."""
    rows, row_scales = int8_rows(x.flatten(0, -2))  # (n, in), (n, 1)
    y = int8_product(rows, codes) * row_scales * scales  # (n, out)
    return y.unflatten(0, x.shape[:-1]).to(x.dtype)


def int8_linear(x: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """Return (..., out) of x (..., in) as it is; codes int8 (out, in), scales float32 (out,)."""
    rows = x.flatten(0, -2)  # (n, in)
    if x.device.type != "cpu" or len(rows) > DIGIT_ROWS:
        return F.linear(x, codes.to(x.dtype)) * scales.to(x.dtype)
    digits, row_scales = _digits(rows.float())  # (3 n, in), (n, 1)
    high, middle, low = int8_product(digits, codes).chunk(N_DIGITS)  # (n, out) each
    y = ((high * BASE + middle) * BASE + low) * row_scales * scales
    return y.unflatten(0, x.shape[:-1]).to(x.dtype)


def _digits(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 digits (3 n, in), the highest first, and scales (n, 1): x = scale * digits in base 254."""
    scales = x.abs().amax(dim=1, keepdim=True) / (MAX_CODE * BASE**2)  # (n, 1)
    rest = (x / scales.clamp_min(SMALLEST)).round()  # whole numbers below 2^23
    digits = []
    for place in (BASE**2, BASE, 1):
        digit = (rest / place).round()
        rest = rest - digit * place
        digits.append(digit)
    return torch.cat(digits).to(torch.int8), scales
