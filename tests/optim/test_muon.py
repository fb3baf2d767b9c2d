"""gpt/optim/muon.py: the Gram form of Newton-Schulz against the plain one."""

import pytest
import torch

from gpt.optim import muon
from tests.tolerances import TOLERANCE


@pytest.mark.parametrize("shape", [(3, 16, 64), (64, 16)])
def test_gram_form_equals_the_plain_one(shape: tuple[int, ...]) -> None:
    """Guards: a factor applied on the wrong side, one step too many on the Gram matrix."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    wide = matrix if matrix.shape[-1] > matrix.shape[-2] else matrix.mT
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True)
    difference = (muon._by_gram_matrix(wide) - muon._by_matrix(wide)).abs().max()
    assert difference <= TOLERANCE["muon_gram_vs_matrix"]


def test_half_precision_keeps_to_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: the Gram form, which squares the condition number, in bf16."""
    monkeypatch.setattr(muon, "_by_gram_matrix", lambda x: pytest.fail("Gram form in bf16"))
    muon.orthogonalize(torch.randn(8, 64).to(torch.bfloat16))
