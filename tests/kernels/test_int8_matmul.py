"""int8 products."""

import pytest
import torch

from gpt.kernels.int8_matmul import (
    emulated_product,
    int8_dynamic_linear,
    int8_linear,
    int8_product,
    int8_rows,
)
from tests.tolerances import TOLERANCE


def test_codes_by_hand() -> None:
    """Largest 2.54: scale 0.02; 1.0 is code 50, -0.51 is -25.5 and rounds to even -26; zeros stay zeros.

    Guards a scale of 128, which the code -128 alone would use, and 0 / 0.
    """
    codes, scales = int8_rows(torch.tensor([[2.54, 1.0, -0.51], [0.0, 0.0, 0.0]]))
    assert codes.tolist() == [[127, 50, -26], [0, 0, 0]]
    assert scales[:, 0].tolist() == pytest.approx([0.02, 0.0])


def test_dynamic_product_by_hand() -> None:
    """x = (127, -63.4): scale 1, codes (127, -63); w = codes (2, 1) of scale 0.5: 0.5 (254 - 63) = 95.5.

    Guards activations that are not rounded (95.3), and a scale that is applied twice or to the wrong side.
    """
    y = int8_dynamic_linear(
        torch.tensor([[127.0, -63.4]]), torch.tensor([[2, 1]], dtype=torch.int8), torch.tensor([0.5])
    )
    assert y.tolist() == [[95.5]]


@pytest.mark.parametrize("shape", [(1, 600), (3, 4, 600), (40, 600)])
def test_weight_only_equals_the_float_product(shape: tuple[int, ...]) -> None:
    """One row, several and many, with one activation 1,000 times the others.

    Guards digits that overflow or lose the small ones beside a large one, and a shape that stays flattened.
    """
    g = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, generator=g)
    x[..., 7] *= 1000
    codes = torch.randint(-127, 128, (48, 600), generator=g, dtype=torch.int8)
    scales = torch.rand(48, generator=g) + 0.1
    want = x.double() @ (codes.double() * scales.double()[:, None]).T
    got = int8_linear(x, codes, scales)
    assert got.shape == want.shape
    assert float((got - want).norm() / want.norm()) < TOLERANCE["int8_weight_only_vs_float64"]


def test_the_emulated_product_is_exact() -> None:
    """The way of other devices, and the CPU's, at the largest sums: guards blocks that float32 rounds."""
    a = torch.full((2, 3000), 127, dtype=torch.int8)
    b = torch.full((5, 3000), 127, dtype=torch.int8)
    b[0, 1::2] = -126
    want = a.long() @ b.long().T
    assert torch.equal(int8_product(a, b), want.float())
    assert torch.equal(emulated_product(a, b), want.float())


def test_half_precision_comes_back_as_it_went_in() -> None:
    """Guards a float32 result that stops autocast's bfloat16 stream with a dtype error."""
    x = torch.randn(2, 32, dtype=torch.bfloat16)
    codes, scales = int8_rows(torch.randn(8, 32))
    for linear in (int8_linear, int8_dynamic_linear):
        assert linear(x, codes, scales[:, 0]).dtype == torch.bfloat16
