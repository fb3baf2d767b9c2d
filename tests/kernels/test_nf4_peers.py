"""NF4 against bitsandbytes, in .venv-peers alone: `make test-peers`."""

from typing import Any

import pytest
import torch

from gpt.kernels.nf4_packing import dequantize, dynamic_values, quantize

pytestmark = pytest.mark.peers
SHAPES = [(576, 576), (192, 576), (1536, 576), (576, 1536), (64, 65)]


def quantized_by_them(weight: torch.Tensor, *, exact: bool) -> tuple[torch.Tensor, Any]:
    """Return their packed codes and state; `exact` sends the scales past their CPU kernel's lookup table."""
    from bitsandbytes import functional

    packed, state = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    if exact:  # float32 and narrower types go through the table, float64 through their plain code
        _, plain = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=False)
        centred = (plain.absmax - state.offset).double()
        quantize_blockwise = torch.ops.bitsandbytes.quantize_blockwise.default
        state.absmax, state.state2.absmax = quantize_blockwise(centred, state.state2.code, 256)
    return packed, state


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_identical_to_bitsandbytes(shape: tuple[int, int], seed: int) -> None:
    """Guards: an NF4 that nobody else reads. Codes, both scales, the mean and what is read back, bit for
    bit."""
    from bitsandbytes import functional

    weight = 0.05 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    packed, state = quantized_by_them(weight, exact=True)
    ours = quantize(weight)
    assert torch.equal(ours.packed, packed.view(-1))
    assert torch.equal(ours.scale_codes, state.absmax)
    assert torch.equal(ours.scale_scales, state.state2.absmax)
    assert torch.equal(ours.scale_mean, state.offset)
    assert torch.equal(dynamic_values(torch.device("cpu")), state.state2.code)
    theirs = functional.dequantize_4bit(packed, state)
    torch.testing.assert_close(dequantize(ours), theirs, atol=1e-8, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_their_cpu_kernel_rounds_scales_by_a_table(shape: tuple[int, int]) -> None:
    """What is left between us and what bitsandbytes' fast CPU path computes: at most 1% of the scales'
    codes are one step away, and where they are, ours is the nearer one. Guards: calling more than that a
    rounding."""
    weight = 0.05 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    packed, state = quantized_by_them(weight, exact=False)
    ours = quantize(weight)
    assert torch.equal(ours.packed, packed.view(-1))
    assert torch.equal(ours.scale_mean, state.offset)
    assert torch.equal(ours.scale_scales, state.state2.absmax)
    odd = ours.scale_codes != state.absmax
    assert odd.float().mean() <= 0.01
    assert ((ours.scale_codes.int() - state.absmax.int()).abs() <= 1).all()
    largest = weight.view(-1, 64).abs().amax(1)
    tops = ours.scale_scales.repeat_interleave(256)[: len(largest)]
    wanted = (largest - largest.mean()) / tops
    values = dynamic_values(torch.device("cpu"))
    near, far = ((wanted - values[codes.int()]).abs() for codes in (ours.scale_codes, state.absmax))
    assert (near <= far + 1e-7).all()
