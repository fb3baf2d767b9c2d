"""Nats of chosen tokens."""

import pytest
import torch

from gpt.evaluate.token_nats import token_nats
from tests.evaluate.tiny_models import tiny_model
from tests.tolerances import TOLERANCE


@pytest.mark.parametrize("changes", [{}, {"n_experts": 4}, {"logit_softcap": 5.0}])
def test_batches_equal_one_at_a_time(changes: dict[str, float]) -> None:
    """Padded batches of mixed lengths against log_softmax of each sequence alone, in the given order.

    Guards results returned in the order of lengths, padding that leaks, and an off-by-one in targets.
    """
    model = tiny_model(**changes)
    g = torch.Generator().manual_seed(0)
    lengths = (5, 2, 17, 9, 17)
    samples = [
        (torch.randint(300, (n,), generator=g).tolist(), (torch.rand(n, generator=g) < 0.6).tolist())
        for n in lengths
    ]
    found = token_nats(model, samples, batch_tokens=40)
    for (ids, scored), nats in zip(samples, found, strict=True):
        with torch.no_grad():
            log_p = model(torch.tensor([ids]))[0].log_softmax(-1)
        expected = [-float(log_p[i - 1, ids[i]]) for i in range(1, len(ids)) if scored[i]]
        assert nats.tolist() == pytest.approx(expected, abs=TOLERANCE["nats_padded_vs_alone"])


def test_too_long_is_refused() -> None:
    """Guards a silent cut: 66 tokens are 65 inputs for a context of 64."""
    with pytest.raises(ValueError, match="65 tokens do not fit max_seq_len 64"):
        token_nats(tiny_model(), [([1] * 66, [True] * 66)], 4096)
