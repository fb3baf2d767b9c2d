"""Prompts of unequal length decoded side by side, without padding in front.

All rows stand at position 0. The shortest prompt is read at once, and while a row's own prompt lasts its next
token is read from there. So the cache holds nothing that must be hidden, learned positions are right, and a
row does not depend on its neighbours beyond rounding. What is chosen, and when a row ends, is the caller's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gpt.model.kv_cache import KVCache
from gpt.model.transformer import Transformer


class RaggedBatch:
    """Rows of prompts with room for n_tokens behind the longest."""

    def __init__(
        self, model: Transformer, prompts: Sequence[Sequence[int]], n_tokens: int, *, padding: int = 0
    ) -> None:
        self.model = model
        device = model.embed.weight.device
        self.lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)  # (B,)
        size = (len(prompts), int(self.lengths.max()) + n_tokens)
        self.ids = torch.full(size, padding, device=device)  # (B, S)
        for row, prompt in zip(self.ids, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt, device=device)

    def steps(self) -> Iterator[tuple[int, Tensor]]:
        """Yield a place and the logits (B, V), fp32, of the token there.

        Before the next step the caller writes `ids[:, place]`, of rows alone whose prompt has ended.
        """
        n, limit = self.ids.shape
        first = int(self.lengths.min())
        config, weight = replace(self.model.config, max_seq_len=limit), self.model.embed.weight
        cache = KVCache(config, n, device=weight.device, dtype=weight.dtype)
        fresh = self.ids[:, :first]
        for place in range(first, limit):
            x = self.model.hidden_states(fresh, cache)[:, -1]  # (B, C)
            yield place, self.model.logits(x).float()
            fresh = self.ids[:, place : place + 1]
