"""NF4, the one definition: 16 codes, blocks of 64 with one scale, the scales themselves in 8 bits.

Dettmers et al. 2023 (QLoRA), section 3 and appendix E: a block of 64 weights, in row-major order, is divided
by its largest magnitude and each becomes the nearest of 16 values, quantiles of a normal distribution with an
exact zero. Double quantization: the scales less their mean, in blocks of 256, become one of 256 values of
dynamic tree quantization (Dettmers 2016). Two codes a byte, the even weight in the high nibble. In all
4 + 8/64 + 32/(64 * 256) = 4.127 bits a weight.

Bit for bit what bitsandbytes makes (tests/kernels/test_nf4_peers.py). Not here: int4 with GPTQ's rounding
(int4_packing.py), which is for finished models; this is for a frozen base under adapters.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

BLOCK, SCALE_BLOCK = 64, 256
"""Weights of one scale; scales of one scale's scale."""
CODES = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
SMALLEST = 1.0e-38
"""A block of zeros is divided by this, not by its largest magnitude."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Nf4:
    """A matrix in NF4 with double quantization."""

    packed: Tensor
    """uint8 (out * in / 2,): two codes a byte, the even weight in the high nibble."""
    scale_codes: Tensor
    """uint8 (blocks,): each block's largest magnitude, less the mean of all."""
    scale_scales: Tensor
    """float32 (blocks of 256 scales,)."""
    scale_mean: Tensor
    """float32 ()."""
    shape: tuple[int, int]
    """(out, in)."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(t.nbytes for t in (self.packed, self.scale_codes, self.scale_scales, self.scale_mean))


@cache
def code_values(device: torch.device) -> Tensor:
    """Return the 16 values, float32, ascending."""
    return torch.tensor(CODES, device=device)


@cache
def dynamic_values(device: torch.device) -> Tensor:
    """Return the 256 values of dynamic tree quantization, float32, ascending.

    With sign, seven decades: in decade 10^(i-6), of 0.1 to 1, the centres of 2^i equal pieces; and 0 and 1.
    """
    values = [torch.zeros(1), torch.ones(1)]
    for i in range(7):
        edges = torch.linspace(0.1, 1, 2**i + 1)
        centres = 10 ** (i - 6) * ((edges[:-1] + edges[1:]) / 2)
        values += [centres, -centres]
    return torch.cat(values).sort().values.to(device)


@cache
def _pairs(device: torch.device) -> Tensor:
    """Return both values of each byte, float32 (256, 2)."""
    codes = torch.arange(256, device=device)
    return code_values(device)[torch.stack((codes >> 4, codes & 15), dim=1)]


def _nearest(x: Tensor, values: Tensor) -> Tensor:
    """Return the index of the nearest of ascending values, the lower one of a tie, uint8, shaped as x."""
    return torch.bucketize(x, (values[:-1] + values[1:]) / 2, out_int32=True).to(torch.uint8)


def _scaled(blocks: Tensor, largest: Tensor) -> Tensor:
    """Return blocks (n, size) divided by their largest magnitudes (n,), by way of the reciprocal."""
    return (blocks * (1 / largest.clamp(min=SMALLEST))[:, None]).clamp_(-1, 1)


def quantize(weight: Tensor) -> Nf4:
    """Return a float weight (out, in) in NF4. Raises ValueError when it is not whole blocks."""
    if weight.ndim != 2 or weight.numel() % BLOCK:
        raise ValueError(
            f"base_precision: nf4 takes matrices of a multiple of {BLOCK} weights, got one of "
            f"{tuple(weight.shape)}; choose fp32 or bf16"
        )
    blocks = weight.detach().float().reshape(-1, BLOCK)  # (n, 64)
    largest = blocks.abs().amax(dim=1)  # (n,)
    codes = _nearest(_scaled(blocks, largest), code_values(weight.device)).view(-1)  # (out * in,)
    mean = largest.mean()
    scale_codes, scale_scales = _quantize_scales(largest - mean)
    return Nf4(
        packed=(codes[0::2] << 4) | codes[1::2],
        scale_codes=scale_codes,
        scale_scales=scale_scales,
        scale_mean=mean,
        shape=(weight.shape[0], weight.shape[1]),
    )


def _quantize_scales(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Return 8-bit codes (n,) and the scales of each 256 of them."""
    n = centred.numel()
    padded = torch.zeros(-(-n // SCALE_BLOCK) * SCALE_BLOCK, device=centred.device)
    padded[:n] = centred
    blocks = padded.view(-1, SCALE_BLOCK)
    largest = blocks.abs().amax(dim=1)  # (m,)
    codes = _nearest(_scaled(blocks, largest), dynamic_values(centred.device))
    return codes.view(-1)[:n], largest


def block_scales(nf4: Nf4) -> Tensor:
    """Return the scale of each block as it reads back, float32 (blocks,)."""
    values = dynamic_values(nf4.packed.device)[nf4.scale_codes.int()]
    scales = nf4.scale_scales.repeat_interleave(SCALE_BLOCK)[: values.numel()]
    return values * scales + nf4.scale_mean


def dequantize(nf4: Nf4, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the weight (out, in) that an Nf4 stands for."""
    table = _pairs(nf4.packed.device)
    values = table.index_select(0, nf4.packed.int()).view(-1, BLOCK)  # (blocks, 64)
    return values.mul_(block_scales(nf4)[:, None]).view(nf4.shape).to(dtype)
