"""gpt/kernels: the document mask by hand, and the backends against each other with it."""

import pytest
import torch

from gpt.kernels.attention_backends import BACKENDS, attention
from gpt.kernels.reference_attention import attention_weights, causal_mask
from tests.tolerances import TOLERANCE

CPU = torch.device("cpu")


def test_masks_by_hand() -> None:
    """Guards: a document that sees the one before it, or its own future; queries that stand first."""
    ids = torch.tensor([[0, 0, 1, 1]])
    seen = causal_mask(4, 4, ids, CPU)
    assert seen.shape == (1, 1, 4, 4)
    assert seen[0, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert causal_mask(2, 4, None, CPU).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_weights_stay_inside_and_sum_to_one() -> None:
    """Guards: probability given away across a border; rows that see nothing and become NaN."""
    q, k = torch.randn(2, 2, 6, 4, 8, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 1, 1]])
    weights = attention_weights(q, k, ids)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 4, 6))
    other = (ids[:, :, None] != ids[:, None, :])[:, None].expand_as(weights)
    assert (weights[other] == 0).all()


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_backends_agree_with_documents(n_kv_heads: int) -> None:
    """Guards: a backend that drops the mask without a word. Each one that runs here, forward and back."""
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(2, 20, 4, 8, generator=generator, requires_grad=True)
    k = torch.randn(2, 20, n_kv_heads, 8, generator=generator, requires_grad=True)
    v = torch.randn(2, 20, n_kv_heads, 8, generator=generator, requires_grad=True)
    ids = torch.rand(2, 20, generator=generator).lt(0.2).cumsum(1)
    results = {}
    for backend in ("reference", "sdpa"):
        out = attention(q, k, v, backend=backend, document_ids=ids)
        results[backend] = [out, *torch.autograd.grad(out.square().sum(), (q, k, v))]
    for a, b in zip(*results.values(), strict=True):
        assert (a - b).abs().max() <= TOLERANCE["attention_vs_reference"]
    free = attention(q, k, v, backend="sdpa")
    assert (free - results["sdpa"][0]).abs().max() > 0.1


def test_an_unknown_backend_names_the_known_ones() -> None:
    """Guards: a silent fallback."""
    x = torch.zeros(1, 1, 1, 2)
    with pytest.raises(ValueError, match="attention_backend: got 'fast'; choose one of sdpa, reference"):
        attention(x, x, x, backend="fast")
    assert list(BACKENDS)[:2] == ["sdpa", "reference"]
