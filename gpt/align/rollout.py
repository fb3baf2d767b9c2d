"""Answers sampled in batches through the KV cache, with the log-probability of every token.

Prompts of unequal length share a batch (gpt/generate/ragged_batch.py). No top-k or top-p: the
log-probabilities are of what was sampled from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.generate.ragged_batch import RaggedBatch
from gpt.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """One sampled sequence."""

    ids: tuple[int, ...]
    """Prompt and answer, with the end of the turn if it came."""
    n_prompt: int
    logprobs: tuple[float, ...]
    """Of the answer's tokens, at the temperature they were drawn with."""
    has_ended: bool


def sample_answers(
    body: Transformer,
    prompts: Sequence[Sequence[int]],
    uniforms: Tensor,
    *,
    temperature: float,
    stop_id: int,
    batch_size: int,
) -> list[Rollout]:
    """Sample an answer to each prompt; uniforms (n, max tokens) in 0..1 decide every token.

    A batch holds prompts of like length. Raises ValueError when a prompt and its answer do not fit.
    """
    longest, limit = max(map(len, prompts)) + uniforms.shape[1], body.config.max_seq_len
    if longest > limit:
        raise ValueError(f"rollout.answer_tokens: prompt and answer take {longest} tokens of {limit}")
    assert not body.training, "call eval() first: dropout would change the probabilities"
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    done: dict[int, Rollout] = {}
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        rows = _sample(body, [prompts[i] for i in chosen], uniforms[chosen], temperature, stop_id)
        done.update(zip(chosen, rows, strict=True))
    return [done[i] for i in range(len(prompts))]


@torch.no_grad()
def _sample(
    body: Transformer, prompts: Sequence[Sequence[int]], uniforms: Tensor, temperature: float, stop_id: int
) -> list[Rollout]:
    """Sample one batch in lockstep."""
    batch, (n, most) = RaggedBatch(body, prompts, uniforms.shape[1], padding=stop_id), uniforms.shape
    ids, lengths, device = batch.ids, batch.lengths, batch.ids.device
    uniforms = uniforms.to(device)
    logprobs = torch.zeros(n, most, device=device)
    ends = lengths + most  # (B,) where each answer ends at the latest
    has_ended = torch.zeros(n, dtype=torch.bool, device=device)
    for place, logits in batch.steps():
        scores = (logits / temperature).log_softmax(dim=-1)  # (B, V)
        at = (place - lengths).clamp(0, most - 1)[:, None]  # (B, 1)
        token = _draw(scores, uniforms.gather(1, at))  # (B, 1)
        speaks = (place >= lengths) & (place < ends)  # (B,)
        rows = speaks.nonzero()[:, 0]
        ids[rows, place] = token[rows, 0]
        logprobs[rows, at[rows, 0]] = scores.gather(1, token)[rows, 0]
        stops = speaks & (token[:, 0] == stop_id)
        has_ended |= stops
        ends = torch.where(stops, place + 1, ends)
        if bool((place + 1 >= ends).all()):
            break
    told = zip(
        ids.tolist(), lengths.tolist(), ends.tolist(), logprobs.tolist(), has_ended.tolist(), strict=True
    )
    return [
        Rollout(ids=tuple(row[:end]), n_prompt=start, logprobs=tuple(found[: end - start]), has_ended=ended)
        for row, start, end, found, ended in told
    ]


def _draw(logprobs: Tensor, uniforms: Tensor) -> Tensor:
    """Return the token ids (B, 1) at which the cumulative probabilities pass the uniforms (B, 1)."""
    total = logprobs.double().exp().cumsum(dim=-1)  # (B, V)
    place = torch.searchsorted(total, uniforms.double() * total[:, -1:], right=True)
    return place.clamp(max=logprobs.shape[1] - 1)
