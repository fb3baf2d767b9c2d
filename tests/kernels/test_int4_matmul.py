"""The plain packed matmul."""

import torch

from gpt.kernels.int4_matmul import int4_matmul
from gpt.kernels.int4_packing import pack_int4
from tests.tolerances import TOLERANCE


def test_equals_a_dense_product_in_blocks() -> None:
    """Guards rows dropped or reordered where blocks of 3 rows do not divide 10 outputs."""
    g = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (10, 32), generator=g, dtype=torch.uint8)
    scales = torch.rand(10, 4, generator=g).half()
    x = torch.randn(2, 5, 32, generator=g)
    dense = (codes.float() - 8) * scales.float().repeat_interleave(8, dim=1)  # (out, in)
    expected = torch.einsum("bti,oi->bto", x, dense)
    for block_weights in (1, 3 * 32, 2**20):
        found = int4_matmul(x, pack_int4(codes), scales, block_weights=block_weights)
        torch.testing.assert_close(found, expected, atol=TOLERANCE["int4_matmul_vs_dense"], rtol=0)
