"""Rung 3, a single attention head: each character asks all before it, and weighs their answers."""

import torch
from torch import Tensor, nn

from gpt.ladder.config import LadderModelConfig


class Head(nn.Module):
    """One head: query, key, value (Vaswani et al. 2017, eq. 1)."""

    def __init__(self, dim: int, head_dim: int, context: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, head_dim, bias=False)
        self.key = nn.Linear(dim, head_dim, bias=False)
        self.value = nn.Linear(dim, head_dim, bias=False)
        self.register_buffer("causal", torch.ones(context, context).tril().bool(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, C) to (B, T, D)."""
        q, k, v = self.query(x), self.key(x), self.value(x)  # (B, T, D) each
        scores = q @ k.mT / k.shape[-1] ** 0.5  # (B, T, T)
        mask = self.causal[: x.shape[1], : x.shape[1]]  # type: ignore[index]
        return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1) @ v


class SingleHead(nn.Module):
    """Embeddings, one head, logits."""

    def __init__(self, vocab_size: int, config: LadderModelConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, config.dim)
        self.position = nn.Embedding(config.context, config.dim)
        self.head = Head(config.dim, config.dim, config.context)
        self.to_logits = nn.Linear(config.dim, vocab_size)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return logits (B, T, V) of token_ids (B, T)."""
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)
        x = self.embed(token_ids) + self.position(positions)  # (B, T, C)
        return self.to_logits(x + self.head(x))
