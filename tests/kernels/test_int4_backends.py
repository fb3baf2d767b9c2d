"""Backends by name: equal to the reference, refused with a reason, chosen by a stated rule."""

import pytest
import torch

from gpt.kernels import int4_backends
from gpt.kernels.int4_backends import BACKENDS, choose_backend
from gpt.kernels.int4_packing import pack_int4
from tests.kernels.test_int4_cpu import best, draw, draw_x
from tests.tolerances import TOLERANCE


@pytest.mark.parametrize("name", ["reference", "torch", "c"])
@pytest.mark.parametrize("shape", [(48, 64, 32), (192, 576, 64), (64, 256, 128), (32, 512, 256)])
def test_every_backend_computes_the_reference(name: str, shape: tuple[int, int, int]) -> None:
    """Guards: PyTorch's scales and zeros in the wrong order, a lost dimension, another dtype."""
    if name == "c" and best() is None:
        pytest.skip("the kernel needs Linux on x86-64 with AVX2")
    codes, scales = draw(shape, 4)
    packed = pack_int4(codes)
    reference = BACKENDS["reference"][1](packed, scales)
    weights = BACKENDS[name][1](packed, scales)
    assert torch.equal(weights.values(), reference.values())
    assert weights.nbytes >= packed.nbytes + scales.nbytes
    for rows in (1, 7, 130):
        x = draw_x(rows, shape[1])
        want, found = reference(x), weights(x.view(1, rows, -1))
        assert found.shape == (1, rows, shape[0])
        relative = (found[0] - want).norm() / want.norm()
        if name == "c":  # x in 8 bits, of which these inputs have an uneven share
            assert 1e-4 < relative < 0.012
        else:
            assert relative <= (TOLERANCE["int4_torch_vs_reference"] if name == "torch" and rows < 100 else 0)
        assert weights(x.bfloat16()).dtype == torch.bfloat16
    x = draw_x(2, shape[1]).requires_grad_()
    weights(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, reference.values().sum(0).expand(2, -1), rtol=1e-4, atol=1e-3)


def test_a_named_backend_that_is_unavailable_raises() -> None:
    """Guards: a silent fall back to the slow path."""
    with pytest.raises(ValueError, match="'fast'; choose one of auto, c, torch, reference"):
        choose_backend("fast", [(16, 64, 32)])
    with pytest.raises(ValueError, match="groups of 16 and 64 outputs; choose c or reference"):
        choose_backend("torch", [(64, 64, 32), (64, 64, 16)])
    with pytest.raises(ValueError, match="multiple of 16 outputs, got groups of 32 and 40"):
        choose_backend("torch", [(40, 64, 32)])
    with pytest.raises(ValueError, match="multiple of 8, got 20"):
        choose_backend("c", [(64, 80, 20)])
    assert choose_backend("reference", [(5, 6, 2)]) == ("reference", "")


def test_auto_takes_the_first_that_can_and_says_why_not_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a rule that depends on anything but what the machine and the model have."""
    if best() is not None:
        assert choose_backend("auto", [(64, 64, 32)]) == ("c", "")

    def missing(shape: object) -> None:
        raise ValueError("int4_backend: c needs a compiler")

    monkeypatch.setitem(int4_backends.BACKENDS, "c", (missing, BACKENDS["c"][1]))
    assert choose_backend("auto", [(64, 64, 32)]) == ("torch", "int4_backend: c needs a compiler")
    name, why = choose_backend("auto", [(64, 64, 16)])
    assert name == "reference"
    assert "c needs a compiler; int4_backend: torch needs groups" in why
