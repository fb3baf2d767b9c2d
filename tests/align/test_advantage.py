"""gpt/align/advantage.py against the numbers in its docstrings, worked out by hand."""

import pytest
import torch
from torch import Tensor

from gpt.align.advantage import adapt_kl_coef, gae, group_advantages, token_rewards, whiten
from tests.tolerances import TOLERANCE

ATOL = TOLERANCE["align_by_hand"]


def close(found: Tensor, expected: list) -> bool:
    return torch.allclose(found, torch.tensor(expected), atol=ATOL, rtol=0)


def test_rewards_of_tokens_by_hand() -> None:
    """Guards: a score on the first token, on padding, or on every token; a KL of the wrong sign."""
    logprobs = torch.tensor([[9.0, -1.0, -2.0, 9.0]])
    reference = torch.tensor([[0.0, -1.5, -1.0, 0.0]])
    mask = torch.tensor([[False, True, True, False]])
    found = token_rewards(logprobs, reference, mask, torch.tensor([2.0]), 0.1)
    assert close(found, [[0.0, -0.05, 2.1, 0.0]])


def test_gae_by_hand() -> None:
    """Guards: an advantage that leaks over an answer's ends, values of padding, gamma and lambda swapped.

    Second row, gamma 0.5, lambda 1: deltas -0.25, -0.25 and 0.5 give 0.5, -0.25 + 0.25 = 0,
    -0.25 + 0 = -0.25.
    """
    rewards = torch.tensor([[7.0, 0.0, 0.0, 1.0, 7.0]])
    values = torch.tensor([[7.0, 0.5, 0.5, 0.5, 7.0]])
    mask = torch.tensor([[False, True, True, True, False]])
    assert close(gae(rewards, values, mask, 1.0, 0.5), [[0.0, 0.125, 0.25, 0.5, 0.0]])
    assert close(gae(rewards, values, mask, 0.5, 1.0), [[0.0, -0.25, 0.0, 0.5, 0.0]])


def test_whitening_by_hand() -> None:
    """Guards: padding that enters mean and variance."""
    x, mask = torch.tensor([[1.0, 2.0], [3.0, 99.0]]), torch.tensor([[True, True], [True, False]])
    assert close(whiten(x, mask), [[-1.224745, 0.0], [1.224745, 0.0]])


def test_groups_by_hand() -> None:
    """Guards: groups cut across prompts; a group without a difference that teaches rounding."""
    found = group_advantages(torch.tensor([1.0, 0.0, 0.0, 1.0, 5.0, 7.0, 5.0, 7.0]), 4)
    deviation = 1.154701
    other = 1 / (deviation + 1e-4)
    expected = [0.865875, -0.865875, -0.865875, 0.865875, -other, other, -other, other]
    assert close(found, expected)
    equal = torch.tensor([0.1, 0.1, 0.1, 1.0, 1.0, 1.0])
    assert torch.equal(group_advantages(equal, 3), torch.zeros(6))


def test_the_coefficient_follows_the_target() -> None:
    """Guards: a coefficient that falls when the policy runs away."""
    assert adapt_kl_coef(0.1, 2.0, 1.0, 64, 640) == pytest.approx(0.102)
    assert adapt_kl_coef(0.1, 0.9, 1.0, 64, 640) == pytest.approx(0.099)
    assert adapt_kl_coef(0.1, 1.0, 1.0, 64, 640) == 0.1
