"""Rung 4, several heads: small ones side by side, each free to look for something else."""

import torch
from torch import Tensor, nn

from gpt.ladder.config import LadderModelConfig
from gpt.ladder.single_head import Head


class MultiHeadAttention(nn.Module):
    """H heads of width C/H, concatenated and mixed."""

    def __init__(self, config: LadderModelConfig) -> None:
        super().__init__()
        head_dim = config.dim // config.n_heads
        self.heads = nn.ModuleList(Head(config.dim, head_dim, config.context) for _ in range(config.n_heads))
        self.mix = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        return self.mix(torch.cat([head(x) for head in self.heads], dim=-1))


class MultiHead(nn.Module):
    """Embeddings, multi-head attention, logits."""

    def __init__(self, vocab_size: int, config: LadderModelConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, config.dim)
        self.position = nn.Embedding(config.context, config.dim)
        self.attention = MultiHeadAttention(config)
        self.to_logits = nn.Linear(config.dim, vocab_size)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return logits (B, T, V) of token_ids (B, T)."""
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)
        x = self.embed(token_ids) + self.position(positions)  # (B, T, C)
        return self.to_logits(x + self.attention(x))
