"""Packed int4, the one definition: two 4-bit codes a byte along the inputs, one fp16 scale a group.

`packed` uint8 (out, in/2), low nibble = even input; `scales` float16 (out, in/g); the value is
`(code - 8) * scale`. Not here: how codes are chosen (gpt/quantize). The layout is the house's own, written
down in docs/architecture.md; GPTQ's and GGUF's file layouts belong to gpt/export.
"""

import torch
from torch import Tensor

ZERO_CODE = 8
"""The code of the value 0."""
MAX_CODE = 15


def pack_int4(codes: Tensor) -> Tensor:
    """Pack codes uint8 (out, in), each 0..15, into uint8 (out, in/2).

    >>> pack_int4(torch.tensor([[1, 2, 15, 0]], dtype=torch.uint8)).tolist()
    [[33, 15]]
    """
    assert codes.dtype == torch.uint8, codes.dtype
    assert codes.ndim == 2, codes.shape
    if codes.shape[1] % 2:
        raise ValueError(f"codes: {codes.shape[1]} inputs cannot be paired; an even number is needed")
    if codes.numel() and int(codes.max()) > MAX_CODE:
        raise ValueError(f"codes: {int(codes.max())} does not fit 4 bits; 0..{MAX_CODE} is needed")
    return codes[:, 0::2] | (codes[:, 1::2] << 4)  # (out, in/2)


def unpack_int4(packed: Tensor) -> Tensor:
    """Return codes uint8 (out, in) of packed uint8 (out, in/2)."""
    assert packed.dtype == torch.uint8, packed.dtype
    return torch.stack((packed & 0xF, packed >> 4), dim=-1).flatten(1)  # (out, in)


def dequantize(packed: Tensor, scales: Tensor) -> Tensor:
    """Return float32 values (out, in) of packed (out, in/2) and scales (out, in/g)."""
    return codes_to_values(unpack_int4(packed), scales.float())


def codes_to_values(codes: Tensor, scales: Tensor) -> Tensor:
    """Return (code - 8) * scale, (out, in), in the dtype of scales (out, in/g)."""
    out_features, in_features = codes.shape
    groups = codes.view(out_features, scales.shape[1], -1).to(scales.dtype) - ZERO_CODE  # (out, in/g, g)
    return (groups * scales[:, :, None]).view(out_features, in_features)
