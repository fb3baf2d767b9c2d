"""The losses of gpt/align against numbers worked out by hand, and against trl's on the same numbers."""

import math

import pytest
import torch

from gpt.align.config import DpoConfig, GrpoConfig
from gpt.align.dpo import dpo_loss
from gpt.align.grpo import grpo_loss
from gpt.align.log_probs import answer_logprobs, k3, mean_entropy, token_logprobs
from gpt.align.ppo import clipped_policy_loss, clipped_value_loss
from gpt.align.reward_model import bradley_terry_loss, last_places
from gpt.tokenizer.special_tokens import IGNORE
from tests.align.tiny_policy import DPO
from tests.tolerances import TOLERANCE

ATOL = TOLERANCE["align_by_hand"]


def config(**changes: float) -> DpoConfig:
    dials = {"beta": 0.1, "length_normalized": False, "label_smoothing": 0.0} | changes
    return DpoConfig(**dials)  # type: ignore[arg-type]


def test_log_probabilities_by_hand() -> None:
    """Guards: padding that counts, a temperature that is forgotten, a mean in place of a sum.

    Logits (ln 3, 0) are probabilities 3/4, 1/4; at temperature 0.5 they are 9/10, 1/10.
    """
    logits = torch.tensor([[[math.log(3.0), 0.0]] * 3])
    targets = torch.tensor([[IGNORE, 0, 1]])
    assert token_logprobs(logits, targets)[0].tolist() == pytest.approx(
        [0, math.log(0.75), math.log(0.25)], abs=ATOL
    )
    assert token_logprobs(logits, targets, 0.5)[0].tolist() == pytest.approx(
        [0, math.log(0.9), math.log(0.1)], abs=ATOL
    )
    total = math.log(0.75 * 0.25)
    assert float(answer_logprobs(logits, targets)) == pytest.approx(total, abs=ATOL)
    assert float(answer_logprobs(logits, targets, is_mean=True)) == pytest.approx(total / 2, abs=ATOL)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert float(mean_entropy(logits, targets, 1.0)) == pytest.approx(entropy, abs=ATOL)


def test_k3_by_hand() -> None:
    """Guards: the reference and the policy swapped, an estimate below zero."""
    p, q = torch.tensor([0.5, 0.25, 0.3]).log(), torch.tensor([0.25, 0.5, 0.3]).log()
    expected = [0.5 + math.log(2) - 1, 2 - math.log(2) - 1, 0.0]
    assert k3(p, q).tolist() == pytest.approx(expected, abs=ATOL)


def test_dpo_by_hand() -> None:
    """Guards: a mean over tokens where a sum is meant, sides swapped, beta applied once too often."""
    assert float(dpo_loss(torch.zeros(4), config())) == pytest.approx(math.log(2), abs=ATOL)
    assert float(dpo_loss(torch.tensor([1.0, -1.0]), config())) == pytest.approx(0.598139, abs=ATOL)
    smooth = 0.9 * 0.598139 + 0.1 * 0.798139  # ln(1 + e^0.2) is ln(1 + e^-0.2) + 0.2
    assert float(dpo_loss(torch.tensor([1.0, -1.0]), config(label_smoothing=0.1))) == pytest.approx(
        smooth, abs=ATOL
    )


def test_reward_model_loss_by_hand() -> None:
    """Guards: sides swapped; a score read at padding or before the answer's end."""
    assert float(bradley_terry_loss(torch.tensor([1.0, 0.0]))) == pytest.approx(0.313262, abs=ATOL)
    targets = torch.tensor([[IGNORE, 5, 6, IGNORE], [IGNORE, IGNORE, 7, IGNORE]])
    assert last_places(targets).tolist() == [3, 3]


def test_ppo_by_hand() -> None:
    """Guards: the minimum taken where the maximum is meant, which rewards leaving the trust region."""
    ratio, advantages = torch.tensor([1.5, 1.5, 0.5, 0.5]), torch.tensor([1.0, -1.0, 1.0, -1.0])
    found = clipped_policy_loss(ratio, advantages, 0.2).tolist()
    assert found == pytest.approx([-1.2, 1.5, -0.5, 0.8], abs=ATOL)
    one, zero = torch.ones(1), torch.zeros(1)
    assert float(clipped_value_loss(one, zero, one, 0.2)) == pytest.approx(0.32, abs=ATOL)
    assert float(clipped_value_loss(one, zero, zero, 0.2)) == pytest.approx(0.5, abs=ATOL)


def test_grpo_by_hand() -> None:
    """Guards: padding in the mean, tokens of all answers averaged together, a KL of the wrong sign.

    Second answer, one token, advantage -1, no KL: 1; the mean of -0.481606 and 1 is 0.259197.
    """
    logprobs = torch.tensor([[-1.0, -1.0], [-3.0, 0.0]])
    reference = torch.tensor([[-1.0, -2.0], [-3.0, 5.0]])
    advantages = torch.tensor([[0.5, 0.5], [-1.0, 0.0]])
    mask = torch.tensor([[True, True], [True, False]])
    dials = GrpoConfig(group_size=2, kl_coef=0.1, clip_ratio=0.2)
    first = grpo_loss(logprobs[:1], logprobs[:1], reference[:1], advantages[:1], mask[:1], dials)
    assert float(first) == pytest.approx(-0.481606, abs=ATOL)
    both = grpo_loss(logprobs, logprobs, reference, advantages, mask, dials)
    assert float(both) == pytest.approx(0.259197, abs=ATOL)


def test_dpo_refuses_what_means_nothing() -> None:
    """Guards: a smoothing that turns the preference round, a beta that drops the reference."""
    for change, message in (({"label_smoothing": 0.5}, "label_smoothing: 0 <= x"), ({"beta": 0.0}, "beta: ")):
        with pytest.raises(ValueError, match=message):
            config(**change)
    assert DPO.beta == 0.1
