"""Rung 1, the bigram: the next character from this one alone. One table (V, V) of logits."""

from torch import Tensor, nn

from gpt.ladder.config import LadderModelConfig


class Bigram(nn.Module):
    """logits = table[character]."""

    def __init__(self, vocab_size: int, config: LadderModelConfig) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)
        nn.init.zeros_(self.table.weight)  # every character equally likely: the loss starts at ln V

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return logits (B, T, V) of token_ids (B, T)."""
        return self.table(token_ids)
