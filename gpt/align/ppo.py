"""PPO at token level: clipped policy and value losses over the answers of a round.

Schulman et al. 2017, eq. 7 and 9; the clipped value loss and the whitened advantages as in Ziegler et al.
2019. Rewards and advantages are made once a round (round.py, advantage.py).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gpt.align.config import AlignConfig, PpoConfig
from gpt.align.log_probs import k3, masked_mean, mean_entropy, token_logprobs
from gpt.align.policy import Policy
from gpt.model.transformer import Transformer
from gpt.tokenizer.special_tokens import IGNORE
from gpt.train.objective import Batch, Objective


class ActorCritic(Policy):
    """A policy and, on the same body, the value of every position; both start from the tuned model."""

    def __init__(self, body: Transformer, config: AlignConfig) -> None:
        super().__init__(body, config, keeps_reference=True)
        self.value_head = nn.Linear(body.config.dim, 1, device=body.embed.weight.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def with_values(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, T, V) and values (B, T) of token_ids (B, T)."""
        x = self.body.hidden_states(token_ids)  # (B, T, C)
        return self.body.logits(x), self.value_head(x)[..., 0].float()


def clipped_policy_loss(ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Return the loss of each token, -min(ratio A, clip(ratio) A), in the shape of its arguments.

    By hand, clip 0.2: ratio 1.5 and A 1 give -1.2; ratio 1.5 and A -1 give 1.5; ratio 0.5 and A 1 give
    -0.5; ratio 0.5 and A -1 give 0.8.
    """
    return torch.maximum(-ratio * advantages, -ratio.clamp(1 - clip, 1 + clip) * advantages)


def clipped_value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Return half the larger of two squared errors: of the value, and of the value kept within clip of old.

    By hand, clip 0.2: value 1, old 0, return 1 give max(0, 0.64) / 2 = 0.32.
    """
    kept = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (kept - returns) ** 2)


def ppo_objective(config: PpoConfig, temperature: float) -> Objective:
    """Return (model, batch) -> PPO loss: batches of Rollouts. Every mean is over the answers' tokens."""

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        assert isinstance(model, ActorCritic), type(model)
        token_ids, targets, old, reference, advantages, returns, old_values = batch
        logits, values = model.with_values(token_ids)
        logprobs = token_logprobs(logits, targets, temperature)
        mask = targets != IGNORE
        ratio = (logprobs - old).exp()
        policy_loss = masked_mean(clipped_policy_loss(ratio, advantages, config.clip_ratio), mask)
        value_loss = masked_mean(clipped_value_loss(values, old_values, returns, config.clip_value), mask)
        loss = policy_loss + config.value_coef * value_loss
        return loss, {
            "loss": loss.detach(),
            "policy_loss": policy_loss.detach(),
            "value_loss": value_loss.detach(),
            **watched(logits, targets, logprobs, old, reference, config.clip_ratio, temperature),
        }

    return objective


@torch.no_grad()
def watched(
    logits: Tensor,
    targets: Tensor,
    logprobs: Tensor,
    old: Tensor,
    reference: Tensor,
    clip: float,
    temperature: float,
) -> dict[str, Tensor | float]:
    """Return what both online algorithms log of a batch; KL in nats a token."""
    mask = targets != IGNORE
    ratio = (logprobs - old).exp()
    return {
        "token_kl": masked_mean(k3(logprobs, reference), mask),
        "kl_since_rollout": masked_mean(k3(old, logprobs), mask),
        "clip_share": masked_mean(((ratio - 1).abs() > clip).float(), mask),
        "entropy": mean_entropy(logits, targets, temperature),
    }
