"""Who guesses the next tokens for speculative decoding: a small model, or the text itself.

Sources: Leviathan et al. 2023 and Chen et al. 2023 (a draft model); Saxena 2023 (prompt lookup).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gpt.generate.engine import next_logits
from gpt.generate.sampling import Sampler, draw, probabilities
from gpt.model.kv_cache import KVCache
from gpt.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """Tokens that may come next, one after the other."""

    token_ids: tuple[int, ...]
    probabilities: tuple[Tensor, ...] | None
    """What each was drawn from, (V,) fp32; None when they were not drawn: each had probability 1."""


class Proposer(Protocol):
    """Anything that guesses; how well decides the speed alone, never the text's distribution."""

    def propose(self, ids: Sequence[int], n: int, sampler: Sampler) -> Proposal:
        """Guess at most n tokens behind ids, with the request's own dials and its own random numbers."""


class DraftModel:
    """A smaller model of the same vocabulary, with a cache of its own, for one sequence."""

    def __init__(self, model: Transformer, *, most: int) -> None:
        assert not model.training, "call model.eval() first: dropout would change the guesses"
        self._model, self._most = model, most
        weight = model.embed.weight
        self._cache = KVCache(model.config, 1, device=weight.device, dtype=weight.dtype, rewind=most)
        self._ids: list[int] = []
        """What the cache holds."""

    def propose(self, ids: Sequence[int], n: int, sampler: Sampler) -> Proposal:
        """Draw at most n tokens behind ids; none when ids do not fit the draft's context."""
        assert n <= self._most, (n, self._most)
        n = min(n, self._model.config.max_seq_len - len(ids) + 1)
        same = next(
            (i for i, (a, b) in enumerate(zip(self._ids, ids, strict=False)) if a != b), len(self._ids)
        )
        self._cache.rewind(len(self._ids) - same)
        del self._ids[same:]
        tokens: list[int] = []
        spread: list[Tensor] = []
        seen = set(ids)
        for _ in range(n):
            fresh = [*ids, *tokens][len(self._ids) :]
            device = self._model.embed.weight.device
            logits = next_logits(self._model, torch.tensor([fresh], device=device), self._cache)  # (V,)
            self._ids += fresh
            spread.append(probabilities(logits, seen, sampler.sampling))
            uniform = torch.tensor([sampler.uniform()], dtype=torch.float64)
            tokens.append(int(draw(spread[-1][None], uniform)))
            seen.add(tokens[-1])
        return Proposal(token_ids=tuple(tokens), probabilities=tuple(spread))


class RepeatedText:
    """What followed the last time that the text's newest tokens stood in it: no model at all."""

    def __init__(self, *, longest: int = 3) -> None:
        self._longest = longest

    def propose(self, ids: Sequence[int], n: int, sampler: Sampler) -> Proposal:
        """Repeat at most n tokens from behind the latest match of the longest ending that has one."""
        text = list(ids)
        for length in range(min(self._longest, len(text) - 1), 0, -1):
            ending = text[-length:]
            for start in range(len(text) - length - 1, -1, -1):
                if text[start : start + length] == ending:
                    follows = text[start + length : start + length + n]
                    return Proposal(token_ids=tuple(follows), probabilities=None)
        return Proposal(token_ids=(), probabilities=None)
