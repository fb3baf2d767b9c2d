"""Rung 2, the MLP: the last few characters, side by side, through one hidden layer (Bengio et al. 2003)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.ladder.config import LadderModelConfig

WINDOW = 8
"""Characters that the MLP sees; it pays for every one with weights of its own."""


class Mlp(nn.Module):
    """Embed WINDOW characters, concatenate, one tanh layer, logits."""

    def __init__(self, vocab_size: int, config: LadderModelConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, config.dim // 4)
        self.hidden = nn.Linear(WINDOW * (config.dim // 4), 2 * config.dim)
        self.head = nn.Linear(2 * config.dim, vocab_size)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return logits (B, T, V); before the first character stands token 0."""
        x = F.pad(self.embed(token_ids), (0, 0, WINDOW - 1, 0))  # (B, T + 7, C/4)
        x = x.unfold(1, WINDOW, 1).flatten(2)  # (B, T, 8 C/4)
        return self.head(torch.tanh(self.hidden(x)))
