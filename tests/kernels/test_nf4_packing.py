"""gpt/kernels/nf4_packing.py: codes, scales and bytes against numbers worked out by hand and a plain loop."""

import statistics

import pytest
import torch

from gpt.kernels.nf4_packing import (
    BLOCK,
    CODES,
    SCALE_BLOCK,
    Nf4,
    block_scales,
    code_values,
    dequantize,
    dynamic_values,
    quantize,
)

CPU = torch.device("cpu")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.05 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_codes_are_the_paper_s_quantiles() -> None:
    """QLoRA, appendix E: quantiles of N(0, 1) from 1 - d to 1/2, d = (1/32 + 1/30) / 2, 8 positive and 7
    negative steps that share the zero, over the largest. Guards: a digit mistyped in the table."""
    normal = statistics.NormalDist().inv_cdf
    outermost = 1 - (1 / 32 + 1 / 30) / 2

    def half(n: int) -> list[float]:
        steps = [outermost + (0.5 - outermost) * i / n for i in range(n)]
        return [normal(p) / normal(outermost) for p in steps]

    expected = sorted([*half(8), *(-x for x in half(7)), 0.0])
    assert pytest.approx(expected, abs=2e-7) == CODES
    assert len(CODES) == 16


def test_dynamic_values_by_hand() -> None:
    """Decade 10^-6 has one piece of 0.1..1 with the centre 0.55; 10^-5 two, at 0.325 and 0.775; the largest
    below 1 is the last of 64: 1 - 0.9/128. Guards: a table of 255 values, a wrong decade."""
    values = dynamic_values(CPU)
    assert len(values) == 256
    assert (values[1:] > values[:-1]).all()
    positive = values[values > 0]
    assert positive[:3].tolist() == pytest.approx([0.55e-6, 0.325e-5, 0.775e-5])
    assert positive[-2:].tolist() == pytest.approx([1 - 0.9 / 128, 1.0])
    assert values[0].item() == pytest.approx(-(1 - 0.9 / 128)), "there is no -1"


def test_a_block_by_hand() -> None:
    """Largest magnitude 2. 2 -> 15, -2 -> 0, 0 -> 7, 0.2 (0.1, nearest 0.0796) -> 8, 0.25 (0.125, nearest
    0.1609: the border is 0.1203) -> 9. Bytes: 15 * 16 + 0, 7 * 16 + 8, 9 * 16 + 7. With one block the mean
    is its own scale, so what is left to quantize is 0, code 127, and everything reads back exactly."""
    weight = torch.zeros(1, BLOCK)
    weight[0, :5] = torch.tensor([2.0, -2.0, 0.0, 0.2, 0.25])
    nf4 = quantize(weight)
    assert nf4.packed[:4].tolist() == [0xF0, 0x78, 0x97, 0x77]
    assert nf4.scale_codes.tolist() == [127]
    assert nf4.scale_mean.item() == 2.0
    expected = torch.tensor([2.0, -2.0, 0.0, 2 * CODES[8], 2 * CODES[9]])
    assert torch.equal(dequantize(nf4)[0, :5], expected)


def test_against_a_plain_loop() -> None:
    """Guards: blocks along columns, nibbles swapped, the last and shorter block of scales, a code that is not
    the nearest. 3 * 113 blocks are one block of 256 scales and one of 83."""
    weight = drawn(3, 113 * BLOCK)
    nf4 = quantize(weight)
    codes = torch.stack((nf4.packed >> 4, nf4.packed & 15), dim=1).view(-1, BLOCK)
    scales = [max(abs(float(w)) for w in block) for block in weight.view(-1, BLOCK)]
    mean = float(torch.tensor(scales).mean())
    values, dynamic = code_values(CPU).tolist(), dynamic_values(CPU).tolist()
    for i in (0, 1, 200, 255, 256, 338):
        for w, code in zip(weight.view(-1, BLOCK)[i].tolist(), codes[i].tolist(), strict=True):
            distances = [abs(w / scales[i] - value) for value in values]
            assert distances[code] <= min(distances) + 1e-7
        first = i // SCALE_BLOCK * SCALE_BLOCK
        top = max(abs(s - mean) for s in scales[first : first + SCALE_BLOCK])
        assert nf4.scale_scales[i // SCALE_BLOCK].item() == pytest.approx(top, abs=1e-8)
        chosen = dynamic[nf4.scale_codes[i]]
        best = min(abs((scales[i] - mean) / top - value) for value in dynamic)
        assert abs((scales[i] - mean) / top - chosen) <= best + 1e-6
        assert block_scales(nf4)[i].item() == pytest.approx(chosen * top + mean, abs=1e-8)
        expected = torch.tensor([values[c] for c in codes[i]]) * block_scales(nf4)[i]
        assert torch.equal(dequantize(nf4).view(-1, BLOCK)[i], expected)


def test_the_error_is_bounded() -> None:
    """The widest gap between codes is 1 - 0.6962 on the negative side, so no weight moves by more than half
    of it times its block's scale, and the scale itself by 0.9 / 64 / 2 of the largest deviation (the widest
    gap of dynamic values, 0.9/64, halved; at -1, which they lack, a whole one). Guards: a clipped or
    shifted code."""
    weight = drawn(64, 512)
    nf4 = quantize(weight)
    blocks = weight.view(-1, BLOCK)
    largest = blocks.abs().amax(1)
    slack = 0.9 / 64 * (largest - largest.mean()).abs().max()
    error = (dequantize(nf4).view(-1, BLOCK) - blocks).abs().amax(1)
    assert (error <= 0.5 * (1 - 0.6961928) * largest + slack + 1e-7).all()
    assert error.max() > 0


def test_bits_a_weight() -> None:
    """Guards: a scale kept in full beside its codes. 512 x 2048 weights by hand: half a byte each, 16,384
    scales of a byte, 64 of four bytes, and a mean: 524,288 + 16,384 + 256 + 4 bytes, 4.127 bits a weight."""
    nf4 = quantize(drawn(512, 2048))
    assert nf4.nbytes == 524_288 + 16_384 + 256 + 4
    assert round(8 * nf4.nbytes / (512 * 2048), 3) == 4.127


def test_zeros_and_misfits() -> None:
    """Guards: a block of zeros that divides by nothing; a matrix that would lose its last weights."""
    weight = drawn(2, 128)
    weight[0] = 0.0
    assert torch.equal(dequantize(quantize(weight))[0], torch.zeros(128))
    assert torch.isfinite(dequantize(quantize(torch.zeros(2, 64)))).all()
    with pytest.raises(ValueError, match=r"nf4 takes matrices of a multiple of 64 weights.*\(3, 21\)"):
        quantize(drawn(3, 21))


def test_packing_again_changes_nothing() -> None:
    """Guards: a second rounding of what is packed already. Scales may move by a rounding of their codes, so
    it is the 4-bit codes that are compared, on a block's own scale."""
    nf4: Nf4 = quantize(drawn(1, BLOCK))
    assert torch.equal(quantize(dequantize(nf4)).packed, nf4.packed)
