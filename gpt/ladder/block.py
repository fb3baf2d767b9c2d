"""Rung 5, the block: attention to gather, a feed-forward to think, norms and residuals to go deep.

The next step is gpt/model/transformer.py: the same, with every mode that grew since.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.ladder.config import LadderModelConfig
from gpt.ladder.multi_head import MultiHeadAttention


class LadderBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: LadderModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.dim)
        self.attention = MultiHeadAttention(config)
        self.ffn_norm = nn.LayerNorm(config.dim)
        self.up = nn.Linear(config.dim, 4 * config.dim)
        self.down = nn.Linear(4 * config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.down(F.gelu(self.up(self.ffn_norm(x))))


class Blocks(nn.Module):
    """Embeddings, a few blocks, a final norm, logits."""

    def __init__(self, vocab_size: int, config: LadderModelConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, config.dim)
        self.position = nn.Embedding(config.context, config.dim)
        self.blocks = nn.ModuleList(LadderBlock(config) for _ in range(config.n_blocks))
        self.final_norm = nn.LayerNorm(config.dim)
        self.to_logits = nn.Linear(config.dim, vocab_size)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return logits (B, T, V) of token_ids (B, T)."""
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)
        x = self.embed(token_ids) + self.position(positions)  # (B, T, C)
        for block in self.blocks:
            x = block(x)
        return self.to_logits(self.final_norm(x))
