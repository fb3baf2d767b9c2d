"""From rewards to advantages: per token with a critic (PPO), per group without (GRPO).

GAE: Schulman et al. 2016, eq. 16. Groups: Shao et al. 2024 (DeepSeekMath), section 4.1.2.
"""

import torch
from torch import Tensor

EPSILON = 1e-4
"""Beside a group's standard deviation, so that a group of nearly equal rewards is not blown up."""


def token_rewards(logprobs: Tensor, reference: Tensor, mask: Tensor, scores: Tensor, coef: float) -> Tensor:
    """Return rewards (B, T): -coef (log p - log p_ref) at every token, the score (B,) on the last one.

    By hand: log p (-1, -2), reference (-1.5, -1), score 2, coef 0.1: -0.1 * 0.5 = -0.05 and
    -0.1 * -1 + 2 = 2.1.
    """
    rewards = -coef * (logprobs - reference) * mask
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (places * mask).argmax(dim=1)  # (B,) the mask is one run of tokens
    rewards[torch.arange(len(rewards), device=mask.device), last] += scores
    return rewards


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """Return advantages (B, T) of one run of masked tokens a row; 0 elsewhere. What follows is worth 0.

    By hand, gamma = 1, lambda = 0.5, rewards (0, 0, 1), values (0.5, 0.5, 0.5): deltas (0, 0, 0.5), so
    0.5, then 0 + 0.5 * 0.5 = 0.25, then 0.125.
    """
    advantages = torch.zeros_like(rewards)
    later, next_value = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        here = mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        later = torch.where(here, delta + gamma * lam * later, 0.0)
        next_value = torch.where(here, values[:, t], 0.0)
        advantages[:, t] = later
    return advantages


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """Return x with mean 0 and variance 1 over the masked entries; 0 elsewhere.

    By hand: (1, 2, 3) has variance 2/3, so -1.224745, 0, 1.224745.
    """
    picked = x[mask]
    scaled = (x - picked.mean()) * torch.rsqrt(picked.var(correction=0) + 1e-8)
    return torch.where(mask, scaled, 0.0)


def group_advantages(scores: Tensor, group_size: int) -> Tensor:
    """Return (score - mean) / standard deviation within each group of successive scores (N,).

    The deviation has n - 1 in its denominator. A group of equal scores teaches nothing: exactly 0.
    By hand: (1, 0, 0, 1) has mean 0.5 and deviation 0.57735, so 0.865875 and -0.865875 (with EPSILON).
    """
    groups = scores.view(-1, group_size)
    centred = groups - groups.mean(dim=1, keepdim=True)
    scaled = centred / (groups.std(dim=1, keepdim=True) + EPSILON)
    is_equal = (groups == groups[:, :1]).all(dim=1, keepdim=True)  # rounding of the mean is no signal
    return torch.where(is_equal, 0.0, scaled).flatten()


def adapt_kl_coef(coef: float, kl: float, target: float, n: int, horizon: int) -> float:
    """Return the coefficient after n answers of mean `kl` nats (Ziegler et al. 2019, section 2.2).

    By hand: twice the target is an error of 1, clipped to 0.2; 64 answers of a horizon of 640 give
    a factor of 1.02.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coef * (1 + error * n / horizon)
