"""GRPO: PPO's clipped loss with advantages out of a group of answers, no critic, and the KL in the loss.

Shao et al. 2024 (DeepSeekMath), eq. 3 and 4: the mean over an answer's tokens, then over the answers. So a
long answer's tokens weigh less, which is the paper's rule and has a known taste for long wrong answers.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from gpt.align.config import GrpoConfig
from gpt.align.log_probs import k3, row_mean, token_logprobs
from gpt.align.ppo import clipped_policy_loss, watched
from gpt.tokenizer.special_tokens import IGNORE
from gpt.train.objective import Batch, Objective


def grpo_loss(
    logprobs: Tensor, old: Tensor, reference: Tensor, advantages: Tensor, mask: Tensor, config: GrpoConfig
) -> Tensor:
    """Return the loss of answers (B, T).

    By hand: one answer of two tokens, log p = old = (-1, -1), reference (-1, -2), advantage 0.5, KL weight
    0.1: k3 is (0, e^-1), so ((-0.5 + 0) + (-0.5 + 0.1 * 0.367879)) / 2 = -0.481606.
    """
    policy = clipped_policy_loss((logprobs - old).exp(), advantages, config.clip_ratio)
    return row_mean(policy + config.kl_coef * k3(logprobs, reference), mask)


def grpo_objective(config: GrpoConfig, temperature: float) -> Objective:
    """Return (model, batch) -> GRPO loss: batches of Rollouts, whose returns and values are not read."""

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        token_ids, targets, old, reference, advantages, _, _ = batch
        logits = model(token_ids)
        logprobs = token_logprobs(logits, targets, temperature)
        loss = grpo_loss(logprobs, old, reference, advantages, targets != IGNORE, config)
        return loss, {
            "loss": loss.detach(),
            **watched(logits, targets, logprobs, old, reference, config.clip_ratio, temperature),
        }

    return objective
