"""The fused Triton kernels against PyTorch's modules in float64: on a GPU compiled, elsewhere interpreted."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed; on Linux type: make setup")

from gpt.kernels import fused_kernels, tuning
from gpt.kernels.add_norm import PROGRAMS, add_rms_norm, rms_norm
from gpt.kernels.fused_kernels import fused_kernel
from gpt.kernels.qk_rope import qk_rope
from gpt.kernels.swiglu import swiglu
from gpt.model.rope import apply_rope, rope_table
from tests.tolerances import TOLERANCE

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EPS = 1e-5
TABLES = tuple(table[3:10].to(DEVICE) for table in rope_table(16, 12, 1e4))
"""Of seven positions behind a prefix of three."""


def plain_qk(q: Tensor, k: Tensor, *gains: Tensor, norm: bool = True) -> tuple[Tensor, Tensor]:
    """Normalize and rotate in the inputs' dtype, with the modules' own functions."""
    if norm:
        q, k = (
            F.rms_norm(x, (12,), gain, EPS) for x, gain in zip((q, k), gains or (None, None), strict=True)
        )
    cos, sin = (table[:, None].to(q.dtype) for table in TABLES)

    def turn(x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    return turn(q), turn(k)


HEADS = ((2, 7, 3, 12), (2, 7, 1, 12))
"""Three query heads and one key head of width 12: masks in every direction."""
CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "swiglu": (swiglu, lambda g, u: F.silu(g) * u, ((5, 30), (5, 30))),
    "norm": (
        lambda x, w: rms_norm(x, w, EPS),
        lambda x, w: F.rms_norm(x, (24,), w, EPS),
        ((2, 13, 24), (24,)),
    ),
    "norm, no gain": (
        lambda x: rms_norm(x, None, EPS),
        lambda x: F.rms_norm(x, (24,), None, EPS),
        ((13, 24),),
    ),
    "addition and norm": (
        lambda x, u, w: add_rms_norm(x, u, w, EPS),
        lambda x, u, w: (x + u, F.rms_norm(x + u, (24,), w, EPS)),
        ((2, 13, 24), (2, 13, 24), (24,)),
    ),
    "rope": (lambda q, k: qk_rope(q, k, TABLES), lambda q, k: plain_qk(q, k, norm=False), HEADS),
    "QK-norm and rope": (
        lambda q, k, *gains: qk_rope(q, k, TABLES, norm=True, gains=gains, eps=EPS),
        plain_qk,
        (*HEADS, (12,), (12,)),
    ),
    "QK-norm without gains": (lambda q, k: qk_rope(q, k, TABLES, norm=True, eps=EPS), plain_qk, HEADS),
}


def run(function: Callable[..., Any], inputs: list[Tensor]) -> list[Tensor]:
    """Return outputs and gradients; those of the outputs are 1, 1/2, 1/3, 1, ..., not contiguous."""
    out = function(*inputs)
    outputs = out if isinstance(out, tuple) else (out,)
    ups = [
        1 / (1 + torch.arange(o.numel(), device=o.device) % 3).to(o.dtype).view(o.mT.shape).mT
        for o in outputs
    ]
    return [*outputs, *torch.autograd.grad(outputs, inputs, ups)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_modules_with_gradients(name: str, dtype: torch.dtype) -> None:
    """More rows than the backward has programs, widths that fill no block. Guards: padding that counts in a
    mean, a gain's gradient of the last rows only, a rotation turned the wrong way on the way back, a prefix's
    positions, keys that read the queries' gains, gradients taken for contiguous, sums in half precision."""
    ours, plain, shapes = CASES[name]
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator).to(DEVICE, dtype).requires_grad_() for shape in shapes]
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    for a, b in zip(run(ours, inputs), run(plain, doubles), strict=True):
        assert a.dtype == dtype
        assert (a - b).abs().max() <= TOLERANCE[f"fused_vs_plain_{str(dtype)[6:]}"] * b.abs().max().clamp(
            min=1
        )


def test_the_cases_are_larger_than_a_launch() -> None:
    """Guards: a loop over rows that every test goes through once."""
    if DEVICE == "cpu":
        assert 13 > PROGRAMS * 4 > 4


def test_the_stream_stays_wide_and_the_norm_leaves_in_autocasts_dtype() -> None:
    """A stream in fp32 and an update in fp16, as autocast makes them. Guards: a residual stream that is
    rounded in every block; a norm in fp32 that each of three linears casts again; a gradient of another
    dtype."""
    x = torch.randn(6, 24, device=DEVICE, requires_grad=True)
    update = torch.randn(6, 24, device=DEVICE, dtype=torch.float16, requires_grad=True)
    with torch.autocast(DEVICE, dtype=torch.float16):
        total, out = add_rms_norm(x, update, None, EPS)
    assert (total.dtype, out.dtype) == (torch.float32, torch.float16)
    assert torch.equal(total, x + update)
    dx, dupdate = torch.autograd.grad((total, out), (x, update), (torch.ones_like(x), torch.ones_like(out)))
    assert (dx.dtype, dupdate.dtype) == (torch.float32, torch.float16)
    assert torch.equal(dx.half(), dupdate)


def test_one_output_of_the_addition_may_stay_unused() -> None:
    """Guards: a backward that needs a gradient of both."""
    x, update = (torch.randn(3, 8, device=DEVICE, requires_grad=True) for _ in range(2))
    total, out = add_rms_norm(x, update, None, EPS)
    assert torch.equal(torch.autograd.grad(total.sum(), x, retain_graph=True)[0], torch.ones_like(x))
    expected = torch.autograd.grad(F.rms_norm(x + update, (8,), None, EPS)[:, 0].sum(), x)[0]
    found = torch.autograd.grad(out[:, 0].sum(), x)[0]
    assert (found - expected).abs().max() <= TOLERANCE["fused_vs_plain_float32"]


def test_rope_equals_the_models_own() -> None:
    """Guards: a plain version in this file that is wrong as the kernel is."""
    q, k = (torch.randn(shape, device=DEVICE) for shape in HEADS)
    for ours, plain in zip(qk_rope(q, k, TABLES), (apply_rope(x, *TABLES) for x in (q, k)), strict=True):
        assert (ours - plain).abs().max() <= TOLERANCE["fused_vs_plain_float32"]


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        ("swiglu", (torch.randn(3, 4), torch.randn(3, 4))),
        ("add_rms_norm", (torch.randn(3, 8), torch.randn(3, 8), torch.randn(8), EPS, torch.float32)),
        ("add_rms_norm", (torch.randn(3, 8), None, None, EPS, torch.float16)),
        ("qk_rope", (*(torch.randn(s) for s in HEADS), *TABLES, torch.randn(12), torch.randn(12), EPS, True)),
    ],
)
def test_the_operators_tell_the_compiler_the_truth(operator: str, arguments: tuple[Any, ...]) -> None:
    """PyTorch's own check of schema, fake tensors and autograd. Guards: shapes that only eager code has."""
    arguments = tuple(
        x.to(DEVICE).requires_grad_(x.ndim != 2 or x.shape[-1] != 6) if isinstance(x, Tensor) else x
        for x in arguments
    )
    torch.library.opcheck(getattr(torch.ops.rawgpt, operator).default, arguments)


def test_without_triton_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a traceback of a missing module where a dial is the cause."""

    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'triton'", name="triton")

    monkeypatch.setattr(fused_kernels, "import_module", missing)
    with pytest.raises(ValueError, match=r"fused_kernels: norm needs Triton.*write fused_kernels: \[\]"):
        fused_kernel("norm after addition")


def test_a_cpu_without_the_interpreter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a fallback in silence, or Triton's own message about a missing driver."""
    monkeypatch.setattr(tuning, "INTERPRETED", False)
    x = torch.randn(2, 8)
    with pytest.raises(ValueError, match="fused_kernels: swiglu runs on CUDA, the tensors are on cpu; leave"):
        swiglu(x, x)
    monkeypatch.undo()
    with pytest.raises(
        ValueError, match=r"fused_kernels: norm takes float32, float16 or bfloat16, got torch\.f"
    ):
        rms_norm(x.to(DEVICE).double(), None, EPS)
