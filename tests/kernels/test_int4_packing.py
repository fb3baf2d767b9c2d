"""The one definition of packed int4."""

import pytest
import torch

from gpt.kernels.int4_packing import dequantize, pack_int4, unpack_int4


def test_low_nibble_is_the_even_input() -> None:
    """By hand: codes 1, 2, 15, 0 are bytes 0x21, 0x0f. Guards swapped nibbles, which garble every weight."""
    codes = torch.tensor([[1, 2, 15, 0]], dtype=torch.uint8)
    assert pack_int4(codes).tolist() == [[0x21, 0x0F]]


def test_values_by_hand() -> None:
    """(code - 8) * scale, scale by group: guards a zero other than 8 and scales that cross groups."""
    packed = torch.tensor([[0x80, 0xF7]], dtype=torch.uint8)  # codes 0, 8, 7, 15
    scales = torch.tensor([[0.5, 2.0]], dtype=torch.float16)
    assert dequantize(packed, scales).tolist() == [[-4.0, 0.0, -2.0, 14.0]]


def test_round_trip() -> None:
    """Every pair of codes comes back. Guards a lost nibble."""
    codes = torch.cartesian_prod(torch.arange(16), torch.arange(16)).to(torch.uint8)  # (256, 2)
    assert torch.equal(unpack_int4(pack_int4(codes)), codes)


def test_bad_codes_are_refused() -> None:
    """Guards a code of 16, which would leak into its neighbour, and an odd number of inputs."""
    with pytest.raises(ValueError, match="16 does not fit 4 bits"):
        pack_int4(torch.tensor([[16, 0]], dtype=torch.uint8))
    with pytest.raises(ValueError, match="3 inputs cannot be paired"):
        pack_int4(torch.zeros(1, 3, dtype=torch.uint8))
