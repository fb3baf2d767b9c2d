"""The C kernel on a CPU: against the same rounding in float64, and against itself."""

import pytest
import torch
from torch import Tensor

from gpt.kernels.compiled import TARGETS, instruction_set
from gpt.kernels.int4_cpu import CpuWeights, largest_group, round_to_bytes, step_of_group
from gpt.kernels.int4_packing import dequantize, pack_int4
from tests.tolerances import TOLERANCE


def best() -> str | None:
    """This machine's instruction set, or None where the kernel cannot be."""
    try:
        return instruction_set()
    except ValueError:
        return None


pytestmark = pytest.mark.skipif(best() is None, reason="the kernel needs Linux on x86-64 with AVX2")
HERE = [name for name in TARGETS if best() == "avx512" or name == "avx2"]
SHAPES = [
    (5, 16, 8),
    (37, 96, 48),
    (40, 256, 128),
    (192, 576, 64),
    (130, 352, 32),
    (48, 80, 80),
    (16, 768, 256),
]
ROWS = [1, 2, 3, 4, 5, 8, 9, 16, 33, 64, 257, 600]


@pytest.fixture(autouse=True)
def threads() -> object:
    """Leave torch's threads as they were."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def draw(shape: tuple[int, int, int], bits: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Codes and scales of one matrix."""
    out, inputs, group = shape
    g = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**bits, (out, inputs), generator=g, dtype=torch.uint8)
    return codes, (torch.rand(out, inputs // group, generator=g) + 0.1).half()


def draw_x(rows: int, inputs: int) -> Tensor:
    """Inputs whose magnitude differs from group to group."""
    g = torch.Generator().manual_seed(rows)
    return torch.randn(rows, inputs, generator=g) * torch.rand(rows, inputs, generator=g).exp()


def expected(codes: Tensor, scales: Tensor, x: Tensor, bits: int) -> Tensor:
    """The same rounding of x, multiplied in float64."""
    group = codes.shape[1] // scales.shape[1]
    step = step_of_group(group)
    parts = x.unflatten(-1, (-1, step))  # (M, in/step, step)
    top = parts.abs().amax(-1, keepdim=True)
    inverse = torch.full_like(top, 127) / top  # 127 / top would be 127 times a rounded reciprocal
    whole = (parts * inverse).round()  # in float32: what falls on a half there must fall here
    rounded = (whole.double() * (top.double() / 127)).flatten(-2)
    weights = (codes.double() - (8 if bits == 4 else 128)) * scales.double().repeat_interleave(group, dim=1)
    return rounded @ weights.T


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_rounded_product_in_float64(shape: tuple[int, int, int], bits: int, target: str) -> None:
    """Guards: a nibble in its neighbour's place, a scale of the next group, a lost last block of 5 outputs,
    rows beyond a tile or a chunk, and sums of 16 bits that saturate."""
    codes, scales = draw(shape, bits)
    codes[0], codes[-1] = 2**bits - 1, 0  # the extremes
    weights = CpuWeights(codes, scales, bits=bits, target=target)
    for rows in ROWS:
        x = draw_x(rows, shape[1])
        x[0, :16] = x[0].abs().max()  # all products of a step of one sign
        want = expected(codes, scales, x, bits)
        error = (weights(x).double() - want).abs().max() / want.abs().max()
        assert error < TOLERANCE["int4_cpu_vs_float64"], (rows, float(error))


def test_a_row_is_the_same_bits_whoever_its_neighbours_are() -> None:
    """Guards: an answer that depends on the batch, on the threads or on the kind of CPU."""
    codes, scales = draw((576, 256, 64), 4)
    x = draw_x(70, 256)
    kinds = [CpuWeights(codes, scales, bits=4, target=target) for target in HERE]
    torch.set_num_threads(1)
    alone = torch.cat([kinds[0](row[None]) for row in x])
    for weights in kinds:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            assert torch.equal(weights(x), alone)
            assert torch.equal(weights(x[:5]), alone[:5])


def test_stays_near_the_product_without_rounding() -> None:
    """Guards: activations rounded far coarser than 8 bits. Rounding to 127 steps of the largest of 32 normal
    numbers (about 2.2) has a standard deviation of 2.2 / 127 / sqrt(12) = 0.5%."""
    codes, scales = draw((192, 576, 64), 4)
    x = torch.randn(64, 576, generator=torch.Generator().manual_seed(0))
    exact = x @ dequantize(pack_int4(codes), scales).T
    error = (CpuWeights(codes, scales, bits=4)(x) - exact).norm() / exact.norm()
    assert 0.003 < error < 0.007


def test_other_forms_of_x() -> None:
    """Guards: a view read as if it were contiguous, a lost leading dimension, a result in another dtype."""
    codes, scales = draw((40, 96, 48), 4)
    weights = CpuWeights(codes, scales, bits=4)
    x = draw_x(12, 96)
    want = weights(x)
    assert torch.equal(weights(x.view(3, 4, 96)), want.view(3, 4, 40))
    assert torch.equal(weights(x.T.contiguous().T), want)
    assert torch.equal(weights(x.repeat(1, 2)[:, :96]), want)
    assert weights(x[:0]).shape == (0, 40)
    half = weights(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, weights(x.bfloat16().float()).bfloat16())


def test_damage_is_seen_and_zeros_are_zeros() -> None:
    """Guards: a NaN or an infinity that rounding turns into a plain number, and 0 / 0."""
    codes, scales = draw((32, 64, 32), 4)
    weights = CpuWeights(codes, scales, bits=4)
    x = torch.zeros(4, 64)
    x[1, 40], x[2, 3], x[3, 5] = torch.nan, torch.inf, 1e-38
    y = weights(x)
    assert torch.equal(y[0], torch.zeros(32))
    assert bool(y[1].isnan().all())
    assert not bool(y[2].isfinite().any())
    assert bool(y[3].isfinite().all())


def test_the_layout_gives_its_codes_back() -> None:
    """Guards: padding that leaks, and a gradient or an export from scrambled weights."""
    for bits in (4, 8):
        codes, scales = draw((37, 96, 48), bits)
        weights = CpuWeights(codes, scales, bits=bits)
        assert torch.equal(weights.codes(), codes)
        if bits == 4:
            assert torch.equal(weights.values(), dequantize(pack_int4(codes), scales))
    assert CpuWeights(*draw((64, 128, 64), 4), bits=4).nbytes == 64 * 64 + 2 * 64 * 2


def test_a_gradient_goes_through_the_unpacked_weights() -> None:
    """Guards: a silent zero gradient."""
    codes, scales = draw((37, 96, 48), 4)
    weights, x = CpuWeights(codes, scales, bits=4), draw_x(3, 96).requires_grad_()
    weights(x).sum().backward()
    torch.testing.assert_close(x.grad, weights.values().sum(0).expand(3, -1))


def test_bytes_round_to_the_nearest() -> None:
    """Guards: a scale that clips. An error is at most half a step, a 127th of the group's largest."""
    weight = torch.randn(50, 96, generator=torch.Generator().manual_seed(0))
    weight[3, :48] = 0
    weights = CpuWeights(*round_to_bytes(weight, 48), bits=8)
    half_step = weight.unflatten(1, (-1, 48)).abs().amax(-1) / 254  # (50, 2)
    error = (weights.values() - weight).unflatten(1, (-1, 48)).abs().amax(-1)
    assert bool((error <= half_step * 1.15).all())  # fp16 scales move a weight of 127 steps by 1/16 of one
    assert torch.equal(weights.values()[3, :48], torch.zeros(48))


def test_groups_that_do_not_fit_are_refused() -> None:
    """Guards: units read beyond a group."""
    with pytest.raises(ValueError, match="multiple of 8, got 12; choose torch or reference"):
        CpuWeights(*draw((16, 24, 12), 4), bits=4)
    with pytest.raises(ValueError, match="widths of a multiple of 8, got 100"):
        largest_group(100)
    assert [step_of_group(n) for n in (8, 64, 80, 128, 96)] == [8, 32, 16, 32, 32]
    assert largest_group(576) == 64
