"""Log-probabilities of given tokens, and the estimates of KL and entropy that training watches.

The k3 estimate of KL: Schulman 2020, "Approximating KL divergence". It is never negative, token by token.
"""

import torch
from torch import Tensor

from gpt.model.loss import token_losses
from gpt.tokenizer.special_tokens import IGNORE


def token_logprobs(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Return log p(target) (B, T) under softmax(logits / temperature) of (B, T, V); 0 where IGNORE."""
    return -token_losses(logits.float() / temperature, targets)


def answer_logprobs(logits: Tensor, targets: Tensor, *, is_mean: bool = False) -> Tensor:
    """Return each row's sum of log-probabilities over its counted targets, (B,), or their mean."""
    total = token_logprobs(logits, targets).sum(dim=1)
    return total / (targets != IGNORE).sum(dim=1) if is_mean else total


def k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Return exp(d) - d - 1 with d = reference - logprobs: tokens drawn from the first estimate its KL.

    By hand: p = 0.5, reference 0.25 gives d = -ln 2 and 0.5 + ln 2 - 1 = 0.193147.
    """
    d = reference - logprobs
    return d.exp() - d - 1


@torch.no_grad()
def mean_entropy(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Return the mean entropy, nats, of the distributions that the counted targets were drawn from."""
    picked = logits[targets != IGNORE].float() / temperature  # (n, V)
    logprobs = picked.log_softmax(dim=-1)
    return -(logprobs.exp() * logprobs).sum(dim=-1).mean()


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of x (B, T) where mask, over all rows together."""
    return (x * mask).sum() / mask.sum()


def row_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the rows of each row's mean of x (B, T) where mask."""
    return ((x * mask).sum(dim=1) / mask.sum(dim=1)).mean()
