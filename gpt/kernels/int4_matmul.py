"""x @ W.T with W packed in 4 bits, on any device: unpack a block of rows, multiply, drop it.

The weights stay packed in memory; what is unpacked at a time is bounded. This is the plain path and the
oracle of faster ones: it saves memory, not time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.kernels.int4_packing import dequantize

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
