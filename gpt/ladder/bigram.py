"""Rung 1, the bigram: the next character from this one alone. One table (V, V) of logits."""

from torch import Tensor, nn

from gpt.ladder.config import LadderModelConfig


class Bigram(nn.Module):
    """logits = table[character].

    The table starts at N(0, 1), as in the tutorials, and therefore above the uniform loss ln V: see
    starting_loss in bigram_counts.py.
    """

    def __init__(self, vocab_size: int, config: LadderModelConfig) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return logits (B, T, V) of token_ids (B, T)."""
        return self.table(token_ids)
