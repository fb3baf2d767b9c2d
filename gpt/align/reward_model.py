"""A reward model: the same body with one number read at the answer's last token.

Trained on pairs by -log sigmoid(chosen - rejected) (Bradley and Terry 1952; Ouyang et al. 2022, eq. 1).
Only differences mean anything: the score has no zero of its own.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.align.config import AlignConfig
from gpt.align.policy import Policy
from gpt.align.toy_reward import Answer, Reward
from gpt.model.transformer import Transformer
from gpt.tokenizer.special_tokens import IGNORE
from gpt.train.objective import Batch

BATCH_SIZE = 32
"""Answers scored at once."""


class RewardModel(Policy):
    """A body and a head that starts at zero: every first score is 0."""

    def __init__(self, body: Transformer, config: AlignConfig) -> None:
        super().__init__(body, config)
        device = body.embed.weight.device
        self.head = nn.Linear(body.config.dim, 1, bias=False, device=device)
        nn.init.zeros_(self.head.weight)

    def scores(self, token_ids: Tensor, last: Tensor) -> Tensor:
        """Return the score (B,) of token_ids (B, T) whose texts end at the places `last` (B,)."""
        x = self.body.hidden_states(token_ids)  # (B, T, C)
        rows = torch.arange(len(x), device=x.device)
        return self.head(x[rows, last])[:, 0].float()


def bradley_terry_loss(scores: Tensor) -> Tensor:
    """Return the mean loss of scores (2 n,), chosen and rejected in turn.

    By hand: scores (1, 0) give ln(1 + e^-1) = 0.313262.
    """
    return -F.logsigmoid(scores[0::2] - scores[1::2]).mean()


def reward_objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
    """Return the loss of a batch of PreferencePairs, and how often the chosen side scores higher."""
    assert isinstance(model, RewardModel), type(model)
    token_ids, targets = batch
    scores = model.scores(token_ids, last_places(targets))
    loss = bradley_terry_loss(scores)
    margin = (scores[0::2] - scores[1::2]).detach()
    return loss, {
        "loss": loss.detach(),
        "margin": margin.mean(),
        "accuracy": (margin > 0).float().mean(),
    }


def last_places(targets: Tensor) -> Tensor:
    """Return where each row's last counted target (B, T) stands in its token_ids: one further, (B,)."""
    places = torch.arange(targets.shape[1], device=targets.device)
    return (places * (targets != IGNORE)).argmax(dim=1) + 1


def model_reward(model: RewardModel) -> Reward:
    """Return the trained model as a reward."""
    model.eval()
    device = model.head.weight.device

    @torch.no_grad()
    def reward(answers: Sequence[Answer]) -> Tensor:
        found = []
        for first in range(0, len(answers), BATCH_SIZE):
            texts = [[*a.prompt.ids, *a.ids] for a in answers[first : first + BATCH_SIZE]]
            last = torch.tensor([len(text) - 1 for text in texts], device=device)
            token_ids = torch.zeros(len(texts), int(last.max()) + 1, dtype=torch.int64)
            for row, text in zip(token_ids, texts, strict=True):
                row[: len(text)] = torch.tensor(text)
            found.append(model.scores(token_ids.to(device), last).cpu())
        return torch.cat(found)

    return reward
