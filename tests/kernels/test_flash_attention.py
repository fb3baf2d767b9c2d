"""FlashAttention-2 against PyTorch's attention in float64: on a GPU compiled, elsewhere interpreted."""

import sys
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed; on Linux type: make setup")

from gpt.kernels import flash_attention as module
from gpt.kernels.attention_backends import attention
from gpt.kernels.flash_attention import flash_attention, flash_operator
from gpt.kernels.flash_scores import document_spans
from tests.tolerances import TOLERANCE

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One problem: B, T, S, H, G, D and what is masked."""

    shape: tuple[int, int, int, int, int, int]
    causal: bool = True
    documents: tuple[int, ...] = ()
    """Lengths; they sum to S."""

    def tensors(self, dtype: torch.dtype) -> list[Tensor]:
        """Return q, k, v and the gradient of the output, whose gradients are of order 1."""
        b, t, s, h, g, d = self.shape
        generator = torch.Generator().manual_seed(0)
        sizes = [(b, t, h, d), (b, s, g, d), (b, s, g, d), (b, t, h, d)]
        tensors = [torch.randn(size, generator=generator) for size in sizes]
        tensors[3] *= 0.25
        return [x.to(DEVICE, dtype) for x in tensors]

    def document_ids(self) -> Tensor | None:
        """Return (B, S): each row its documents, the second row's in reverse order."""
        if not self.documents:
            return None
        lengths = torch.tensor(self.documents)
        rows = [lengths if i % 2 == 0 else lengths.flip(0) for i in range(self.shape[0])]
        ids = [torch.arange(len(row)).repeat_interleave(row) for row in rows]
        return torch.stack(ids).to(DEVICE)


CASES = {
    "one tile": Case(shape=(1, 16, 16, 1, 1, 32)),
    "causal, ragged, grouped": Case(shape=(2, 57, 57, 4, 2, 32)),
    "full, ragged, one key head": Case(shape=(1, 61, 61, 3, 1, 64), causal=False),
    "queries behind a prefix": Case(shape=(1, 33, 70, 2, 1, 32)),
    "full over a longer source": Case(shape=(1, 20, 53, 2, 2, 32), causal=False),
    "one query": Case(shape=(2, 1, 37, 2, 1, 16)),
    "head dim 128": Case(shape=(1, 128, 128, 1, 1, 128)),
    "head dim 80": Case(shape=(1, 40, 40, 2, 1, 80)),
    "documents": Case(shape=(2, 80, 80, 2, 1, 32), documents=(1, 36, 3, 2, 38)),
    "documents, full": Case(shape=(1, 80, 80, 2, 2, 32), documents=(1, 36, 3, 2, 38), causal=False),
    "documents behind a prefix": Case(shape=(1, 50, 90, 2, 1, 32), documents=(30, 20, 40)),
}


def by_sdpa(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
    """Attend in float64 with PyTorch, the mask written out; returns (B, T, H, D)."""
    n_queries, n_keys = q.shape[1], k.shape[1]
    mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=q.device)
    if case.causal:
        mask = mask.tril(n_keys - n_queries)
    ids = case.document_ids()
    if ids is not None:
        mask = mask & (ids[:, None, n_keys - n_queries :, None] == ids[:, None, None, :])  # (B, 1, T, S)
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True).transpose(1, 2)


def with_gradients(out: Tensor, inputs: list[Tensor], up: Tensor) -> list[Tensor]:
    return [out.detach(), *torch.autograd.grad(out, inputs, up.to(out.dtype))]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for name in CASES for dtype in (torch.float32, torch.float16)]
    + [(name, torch.bfloat16) for name in ("causal, ragged, grouped", "documents behind a prefix")],
)
def test_equals_sdpa_with_gradients(name: str, dtype: torch.dtype) -> None:
    """Guards: a mask off by one at a tile's edge, a row or a document that is left out or seen twice, a
    softmax that forgets to shrink, gradients of another head, bfloat16 read as integers."""
    case = CASES[name]
    *inputs, up = case.tensors(dtype)
    inputs = [x.requires_grad_() for x in inputs]
    ours = flash_attention(*inputs, causal=case.causal, document_ids=case.document_ids())
    assert ours.dtype == dtype
    found = with_gradients(ours, inputs, up)
    wanted = with_gradients(by_sdpa(*inputs, case), inputs, up)
    for ours, theirs in zip(found, wanted, strict=True):
        worst = (ours.double() - theirs.double()).abs().max()
        assert worst <= TOLERANCE[f"flash_vs_sdpa_{str(dtype).removeprefix('torch.')}"], name


@pytest.mark.parametrize("documents", [(), (30, 20, 22)], ids=["plain", "documents"])
def test_softcap_equals_the_equation(documents: tuple[int, ...]) -> None:
    """c tanh(s / c), c = 2 so that it bends most scores. Guards: a derivative without 1 - tanh^2."""
    case = Case(shape=(1, 72, 72, 2, 1, 32), documents=documents)
    *inputs, up = case.tensors(torch.float32)
    inputs = [x.requires_grad_() for x in inputs]
    ids = case.document_ids()
    ours = flash_attention(*inputs, document_ids=ids, softcap=2.0)
    q, k, v = (x.double() for x in inputs)
    scores = 2 * torch.tanh(torch.einsum("bthd,bsd->bhts", q, k[:, :, 0]) / 32**0.5 / 2)
    seen = torch.ones(72, 72, dtype=torch.bool, device=DEVICE).tril()
    if ids is not None:
        seen = seen & (ids[:, None, :, None] == ids[:, None, None, :])
    theirs = torch.einsum("bhts,bsd->bthd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v[:, :, 0])
    pairs = zip(with_gradients(ours, inputs, up), with_gradients(theirs, inputs, up), strict=True)
    for a, b in pairs:
        assert (a.double() - b.double()).abs().max() <= TOLERANCE["flash_vs_sdpa_float32"]


@pytest.mark.filterwarnings("ignore:overflow encountered in exp2")  # meant: 1 - 2 / (inf + 1) is 1
def test_large_scores_neither_overflow_nor_vanish() -> None:
    """Scores of +-900, where exp overflows. Guards: a softmax without its maximum; a cap of inf - inf."""
    case = CASES["causal, ragged, grouped"]
    q, k, v, _ = case.tensors(torch.float32)
    theirs = by_sdpa(q * 300, k, v, case)
    assert (flash_attention(q * 300, k, v) - theirs).abs().max() <= TOLERANCE["flash_large_scores"]
    capped = flash_attention(q * 3000, k, v, softcap=5.0)
    assert capped.isfinite().all()


def test_log_sum_exp_is_stored_in_units_of_log2() -> None:
    """Guards: a backward that runs on another normalizer than the forward's."""
    case = CASES["causal, ragged, grouped"]
    q, k, v, _ = case.tensors(torch.float32)
    _, lse = flash_operator(q, k, v, None, None, True, 0.0)
    scores = torch.einsum("bthd,bshd->bhts", q, k.repeat_interleave(2, 2)).double() / 32**0.5
    scores = scores.masked_fill(torch.ones(57, 57, dtype=torch.bool, device=DEVICE).triu(1), -torch.inf)
    theirs = scores.logsumexp(-1) / torch.tensor(2.0).double().log()  # (B, H, T)
    assert (lse - theirs).abs().max() <= TOLERANCE["flash_log_sum_exp"]


def test_views_and_expanded_gradients() -> None:
    """q, k, v cut out of one tensor, heads before positions, the gradient an expanded one. Guards: strides
    that are taken for granted (STACK.md: sum().backward() hands over a tensor without memory of its own)."""
    generator = torch.Generator().manual_seed(1)
    qkv = torch.randn(2, 40, 3, 2, 32, generator=generator).to(DEVICE).requires_grad_()
    flash_attention(*qkv.unbind(2)).sum().backward()
    ours, qkv.grad = qkv.grad, None
    case = Case(shape=(2, 40, 40, 2, 2, 32))
    by_sdpa(*qkv.unbind(2), case).sum().backward()
    assert ours is not None
    assert qkv.grad is not None
    assert (ours - qkv.grad).abs().max() <= TOLERANCE["flash_vs_sdpa_float32"]
    wide = (
        torch.randn(1, 2, 20, 33, generator=generator).to(DEVICE)[..., 1:].transpose(1, 2)
    )  # (1, 20, 2, 32)
    expected = by_sdpa(wide, wide, wide, Case(shape=(1, 20, 20, 2, 2, 32)))
    assert (flash_attention(wide, wide, wide) - expected).abs().max() <= TOLERANCE["flash_vs_sdpa_float32"]


def test_document_spans_by_hand() -> None:
    """Guards: an end that belongs to the next document, a single token's document."""
    starts, ends = document_spans(torch.tensor([[7, 7, 7, 2, 9, 9], [1, 0, 0, 0, 0, 1]]))
    assert starts.tolist() == [[0, 0, 0, 3, 4, 4], [0, 1, 1, 1, 1, 5]]
    assert ends.tolist() == [[3, 3, 3, 4, 6, 6], [1, 5, 5, 5, 5, 6]]


def test_torch_accepts_the_operator() -> None:
    """torch.library.opcheck: schema, fake tensors, autograd, dynamic shapes. Guards: a fake of another shape,
    dtype or stride, which torch.compile would believe."""
    case = Case(shape=(1, 12, 12, 2, 1, 16))
    q, k, v, _ = case.tensors(torch.float32)
    starts, ends = document_spans(torch.arange(12, device=DEVICE)[None] // 5)
    inputs = (q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), starts, ends, True, 3.0)
    torch.library.opcheck(flash_operator, inputs)


def test_survives_torch_compile() -> None:
    """One graph, no break, the same bits. Guards: a compiled model that silently leaves the graph."""

    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q.tanh(), k.tanh(), v, backend="flash").sin()

    *inputs, up = Case(shape=(1, 40, 40, 2, 1, 32)).tensors(torch.float32)
    inputs = [x.requires_grad_() for x in inputs]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    found = with_gradients(compiled(*inputs), inputs, up)
    wanted = with_gradients(function(*inputs), inputs, up)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_autocast_casts_all_three() -> None:
    """Queries leave a norm in float32 and values a matrix in bfloat16. Guards: a run that refuses them."""
    q, k, v, _ = Case(shape=(1, 20, 20, 2, 1, 32)).tensors(torch.float32)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        out = flash_attention(q, k, v.bfloat16())
    assert torch.equal(out, flash_attention(q.bfloat16(), k.bfloat16(), v.bfloat16()))


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a silent other backend, an assert deep in Triton, a copy engine that reads next to a row."""
    q = torch.randn(1, 8, 2, 32)
    monkeypatch.setattr(module, "INTERPRETED", False)
    with pytest.raises(ValueError, match=r"are on cpu; choose sdpa.*TRITON_INTERPRET=1"):
        attention(q, q, q, backend="flash")
    monkeypatch.setattr(module, "INTERPRETED", True)
    with pytest.raises(ValueError, match=r"torch\.float32, torch\.float16, torch\.float16"):
        flash_attention(q, q.half(), q.half())
    with pytest.raises(ValueError, match=r"got torch\.float64"):
        flash_attention(q.double(), q.double(), q.double())
    for head_dim in (20, 136):
        half = torch.randn(1, 8, 1, head_dim).half()
        with pytest.raises(ValueError, match=f"multiples of 8 up to 128 in torch.float16, got {head_dim}"):
            flash_attention(half, half, half)


def test_without_triton_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a ModuleNotFoundError, or another backend taken quietly, where Triton has no build."""
    for name in ("gpt.kernels.flash_attention", "gpt.kernels.flash_launch", "triton"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    q = torch.randn(1, 8, 2, 32)
    with pytest.raises(ValueError, match="flash needs Triton, which is not installed; choose sdpa"):
        attention(q, q, q, backend="flash")
