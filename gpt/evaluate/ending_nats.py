"""Nats of several endings behind one context: the context is read once, not once an ending.

Questions of like length share a batch. What their shortest context is long stands in a KV cache of one row
a question; each ending is then a row of its own behind it, with the few tokens that its context is longer.
So nothing is padded in front, and learned positions are right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gpt.model.kv_cache import KVCache
from gpt.model.loss import token_losses
from gpt.model.transformer import Transformer
from gpt.tokenizer.special_tokens import IGNORE

MOST_AGAIN = 32
"""Tokens of a context that a question's endings may read again together: by so much, divided among the
endings, the contexts of one batch differ."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A context and what may follow it, in token ids; neither is empty."""

    context: Sequence[int]
    endings: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        assert self.context, "nothing stands in front of an empty context's endings"
        assert all(self.endings)


@torch.inference_mode()
def ending_nats(model: Transformer, questions: Sequence[Question], batch_tokens: int) -> list[list[Tensor]]:
    """Return -ln p of each token of each question's endings, float32 on the CPU, (n tokens,) each.

    Raises ValueError for a context and an ending that are beyond max_seq_len together.
    """
    results = [[torch.empty(0)] * len(question.endings) for question in questions]
    for group in _groups(questions, batch_tokens):
        start = min(len(questions[i].context) for i in group) - 1
        cache = _read(model, [questions[i].context[:start] for i in group])
        rows = [(place, i, k) for place, i in enumerate(group) for k in range(len(questions[i].endings))]
        tails = {(i, k): [*questions[i].context[start:], *questions[i].endings[k]] for _, i, k in rows}
        rows.sort(key=lambda row: -len(tails[row[1:]]))
        while rows:
            length = len(tails[rows[0][1:]]) - 1
            count = max(1, batch_tokens // length)
            batch, rows = rows[:count], rows[count:]
            places = [place for place, *_ in batch]
            firsts = [len(questions[i].context) - 1 - start for _, i, _ in batch]
            pieces = _tail_nats(model, cache, places, [tails[row[1:]] for row in batch], firsts)
            for (_, i, k), piece in zip(batch, pieces, strict=True):
                results[i][k] = piece
    return results


def _groups(questions: Sequence[Question], batch_tokens: int) -> Iterator[list[int]]:
    """Yield the indices of questions that share a cache, contexts of like length together."""
    order = sorted(range(len(questions)), key=lambda i: (len(questions[i].context), i))
    group: list[int] = []
    for i in order:
        length = len(questions[i].context)
        again = length - len(questions[group[0]].context) if group else 0
        if again * len(questions[i].endings) > MOST_AGAIN or length * (len(group) + 1) > batch_tokens:
            if group:
                yield group
            group = []
        group.append(i)
    if group:
        yield group


def _read(model: Transformer, prefixes: Sequence[Sequence[int]]) -> KVCache:
    """Return a cache that holds prefixes (B, P) of one length, which may be 0."""
    token_ids = torch.tensor(prefixes, dtype=torch.long, device=model.embed.weight.device)  # (B, P)
    n, length = token_ids.shape
    config = replace(model.config, max_seq_len=max(1, length))
    cache = KVCache(config, n, device=token_ids.device, dtype=model.embed.weight.dtype)
    if length:
        model.hidden_states(token_ids, cache)
    return cache


def _tail_nats(
    model: Transformer,
    cache: KVCache,
    places: Sequence[int],
    tails: Sequence[Sequence[int]],
    firsts: Sequence[int],
) -> list[Tensor]:
    """Return the nats of each tail's tokens behind index `first`; `places` are its rows of the cache.

    Tails are padded on the right, where causal attention does not look; logits are made for what is
    scored alone.
    """
    device = model.embed.weight.device
    longest = max(map(len, tails)) - 1
    token_ids = torch.zeros(len(tails), longest, dtype=torch.long)  # (B, T)
    targets = torch.full_like(token_ids, IGNORE)  # (B, T)
    for row, (tail, first) in enumerate(zip(tails, firsts, strict=True)):
        ids = torch.tensor(tail)
        token_ids[row, : len(ids) - 1] = ids[:-1]
        targets[row, first : len(ids) - 1] = ids[first + 1 :]
    keep = targets != IGNORE  # (B, T)
    rows = torch.tensor(places, device=device)
    x = model.hidden_states(token_ids.to(device), cache.repeat(rows, cache.length + longest))  # (B, T, C)
    logits = model.logits(x[keep.to(device)])  # (n, V)
    nats = token_losses(logits[None], targets[keep][None].to(device))[0]  # (n,)
    return list(nats.cpu().split(keep.sum(dim=1).tolist()))
