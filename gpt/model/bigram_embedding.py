"""An embedding of the pair (previous token, token), added to the token's own.

With vocab_size squared rows every pair has its own (characters); with fewer, pairs share rows by a hash.
It gives the first block what it would else spend its first attention head on. Idea: hash embeddings
(Svenstrup et al. 2017) of n-grams, as in the fast small-scale training runs of 2025.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from gpt.model.documents import follows_in_document

MULTIPLIER = 0x9E3779B1
"""Odd, near 2^32 over the golden ratio (Knuth, volume 3, section 6.4): spreads the pairs' numbers."""


class BigramEmbedding(nn.Module):
    """A table of `n_rows` rows, looked up by pairs of adjacent token ids."""

    def __init__(self, vocab_size: int, dim: int, n_rows: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.table = nn.Embedding(n_rows, dim)

    def forward(
        self, token_ids: Tensor, previous_ids: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """Return (B, T, C) for token_ids (B, T). Zeros where there is no pair: at the first of each row, or
        of each document with document_ids (B, T), or where previous_ids (B, T) are given and are -1."""
        if previous_ids is None:
            pairs = F.pad(self.table(self.rows(token_ids[:, :-1], token_ids[:, 1:])), (0, 0, 1, 0))
            if document_ids is not None:
                pairs = pairs * follows_in_document(document_ids)[:, :, None]
            return pairs
        assert document_ids is None, "documents and a cached prefix do not mix"
        pairs = self.table(self.rows(previous_ids.clamp(min=0), token_ids))
        return pairs * (previous_ids >= 0)[:, :, None]

    def rows(self, previous: Tensor, token_ids: Tensor) -> Tensor:
        """Return the row of each pair; shapes as given."""
        pair, n_rows = previous * self.vocab_size + token_ids, self.table.num_embeddings
        if n_rows >= self.vocab_size**2:
            return pair
        return (pair * MULTIPLIER % 2**32) % n_rows
