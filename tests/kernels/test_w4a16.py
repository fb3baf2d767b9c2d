"""W4A16 against the unpacked weights: on a GPU compiled, elsewhere interpreted."""

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed; on Linux type: make setup")

from gpt.kernels import int4_matmul as module
from gpt.kernels.int4_matmul import W4A16_ROWS, int4_linear
from gpt.kernels.int4_packing import dequantize, pack_int4
from gpt.kernels.w4a16 import FIXED, w4a16
from tests.tolerances import TOLERANCE

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def weights(n_outputs: int, n_inputs: int, group_size: int) -> tuple[Tensor, Tensor]:
    """Return packed codes and scales of order 1/8, both random."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (n_outputs, n_inputs), dtype=torch.uint8, generator=generator)
    scales = (0.1 + 0.1 * torch.rand(n_outputs, n_inputs // group_size, generator=generator)).half()
    return pack_int4(codes).to(DEVICE), scales.to(DEVICE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("group_size", [8, 48, 96])
@pytest.mark.parametrize("rows", [1, 2, W4A16_ROWS])
def test_equals_the_unpacked_product(rows: int, group_size: int, dtype: torch.dtype) -> None:
    """19 outputs and 36 words, which fill no tile, in two parts. Guards: nibbles in the wrong order, a code
    whose bits carry into the next, groups that begin inside of a tile, the last outputs or inputs lost, a
    part added twice, sums in half precision."""
    packed, scales = weights(19, 288, group_size)
    x = torch.randn(rows, 288, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype)
    found = w4a16(x, packed, scales)
    expected = x.double() @ dequantize(packed, scales).double().T
    assert found.dtype == dtype
    assert found.shape == (rows, 19)
    allowed = TOLERANCE[f"w4a16_relative_{str(dtype)[6:]}"] * expected.abs().max()
    assert (found - expected).abs().max() <= allowed


def test_the_problem_is_larger_than_a_tile() -> None:
    """Guards: loops and edges that no test goes through."""
    outputs, words, parts, *_ = FIXED
    assert outputs < 19
    assert parts * words < 288 // 8
    assert (288 // 8) % words
    assert parts > 1


def test_every_code_is_exact() -> None:
    """One input of a row is 1, the others 0: the product is that weight itself. Guards: a code's place value
    that is off by a power of 16 for one of the eight, or the eight taken off wrongly."""
    packed, scales = weights(16, 32, 8)
    for eye in torch.eye(32, device=DEVICE).split(W4A16_ROWS):
        assert torch.equal(w4a16(eye, packed, scales).T, dequantize(packed, scales) @ eye.T)
    one = torch.cat([w4a16(row[None], packed, scales) for row in torch.eye(32, device=DEVICE)[:9]])
    assert torch.equal(one.T, dequantize(packed, scales)[:, :9])


def test_leading_dimensions_are_kept() -> None:
    """Guards: (B, T, in) flattened on the way out."""
    packed, scales = weights(19, 32, 8)
    x = torch.randn(2, 3, 32, device=DEVICE)
    assert torch.equal(w4a16(x, packed, scales).flatten(0, 1), w4a16(x.flatten(0, 1), packed, scales))


def test_an_odd_group_size_is_refused() -> None:
    """Guards: words that belong to two groups, multiplied by one scale."""
    packed, scales = weights(4, 24, 12)
    with pytest.raises(
        ValueError, match=r"a multiple of 8 is needed, got 12; quantize again with quantize.group"
    ):
        w4a16(torch.randn(1, 24, device=DEVICE), packed, scales)


def test_a_packed_linear_takes_it_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for a GPU's tensors. Guards: decoding on a GPU that unpacks all of W for each token; a CPU, a
    long prompt or a tensor that wants a gradient sent to a kernel that has none."""

    class Claims:
        def __init__(self, device: str, rows: int, requires_grad: bool = False) -> None:
            self.device, self.shape, self.requires_grad = torch.device(device), (rows, 8), requires_grad

        def numel(self) -> int:
            return 8 * self.shape[0]

    monkeypatch.setattr(module, "int4_matmul", lambda *_: "unpacked")
    monkeypatch.setattr(module, "fused_kernel", lambda name: lambda *_: name)
    asked = [("cuda", 1), ("cuda", 16), ("cuda", 17), ("cpu", 1), ("cuda", 1, True)]
    found = [int4_linear(Claims(*claim), None, None) for claim in asked]  # type: ignore[arg-type]
    assert found == ["packed linear", "packed linear", "unpacked", "unpacked", "unpacked"]
    with torch.no_grad():
        assert int4_linear(Claims("cuda", 1, True), None, None) == "packed linear"  # type: ignore[arg-type]
