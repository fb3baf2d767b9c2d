"""x @ W.T with W packed in 4 bits, on any device: unpack a block of rows, multiply, drop it.

The weights stay packed in memory; what is unpacked at a time is bounded. int4_matmul is the plain path and
the oracle of faster ones: it saves memory, not time. int4_linear is what a packed linear calls: on a GPU the
few rows of decoding go to our Triton kernel (w4a16.py), which reads W once; many rows are worth unpacking it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.kernels.fused_kernels import fused_kernel
from gpt.kernels.int4_packing import dequantize

W4A16_ROWS = 16
"""Most rows of x on a GPU that the kernel takes."""
BLOCK_WEIGHTS = 2**20
"""Most weights unpacked at a time: 4 MiB in float32, which stays in a CPU's cache."""


def int4_matmul(x: Tensor, packed: Tensor, scales: Tensor, *, block_weights: int = BLOCK_WEIGHTS) -> Tensor:
    """Return (..., out) of x (..., in), packed (out, in/2) and scales (out, in/g), in x's dtype."""
    out_features, in_features = packed.shape[0], 2 * packed.shape[1]
    assert x.shape[-1] == in_features, (x.shape, packed.shape)
    rows = max(1, block_weights // in_features)
    pieces = [
        F.linear(x, dequantize(packed[r : r + rows], scales[r : r + rows]).to(x.dtype))  # (..., rows)
        for r in range(0, out_features, rows)
    ]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)  # (..., out)


def int4_linear(x: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    """Return int4_matmul by the way that the device and the rows of x (..., in) call for.

    The kernel has no gradient: where x wants one, W is unpacked. Raises ValueError on a GPU without Triton,
    or for a group size that the kernel does not take.
    """
    wants_gradient = torch.is_grad_enabled() and x.requires_grad
    if x.device.type != "cuda" or x.numel() // x.shape[-1] > W4A16_ROWS or wants_gradient:
        return int4_matmul(x, packed, scales)
    return fused_kernel("packed linear")(x, packed, scales)
