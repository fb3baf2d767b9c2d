"""Decoding of one sequence: prefill the prompt, then one token a step through the KV cache.

Token ids only; text is text_stream.py's. The cache's length is the position, so a step costs one token. On a
GPU the steps are graphed_decode.py's.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gpt.generate.config import SamplingConfig
from gpt.generate.graphed_decode import GraphedDecode, is_graphed
from gpt.generate.sampling import Sampler
from gpt.model.config import ModelConfig
from gpt.model.kv_cache import KVCache
from gpt.model.transformer import Transformer

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One generated token."""

    token_id: int
    logprob: float
    """Natural log of its probability under the model itself, before any sampling dial."""
    alternatives: tuple[tuple[int, float], ...]
    """The likeliest token ids with their logprobs, best first; as many as were asked for."""
    finish_reason: FinishReason | None
    """On the last step only: stop is a stop token (this one), length is max_tokens or a full context."""


def generate(
    model: Transformer,
    prompt_ids: Sequence[int],
    sampling: SamplingConfig,
    *,
    stop_ids: Collection[int] = (),
    device: torch.device | str = "cpu",
    n_alternatives: int = 0,
) -> Iterator[Step]:
    """Check the request, then generate tokens after `prompt_ids`, lazily, one step per token.

    Raises ValueError, before the first step, for an empty prompt, an id outside the vocabulary, or a
    prompt longer than the context.
    """
    check_prompt(model.config, prompt_ids)
    assert not model.training, "call model.eval() first: dropout would change the text"
    return _decode(model, list(prompt_ids), sampling, frozenset(stop_ids), device, n_alternatives)


def check_prompt(config: ModelConfig, prompt_ids: Sequence[int]) -> None:
    """Raise ValueError for a prompt that is empty, too long, or has an id outside the vocabulary."""
    if not prompt_ids:
        raise ValueError("prompt: it is empty; give at least one token")
    if (bad := next((i for i in prompt_ids if not 0 <= i < config.vocab_size), None)) is not None:
        raise ValueError(f"prompt: token id {bad} is outside 0..{config.vocab_size - 1}")
    if len(prompt_ids) > config.max_seq_len:
        raise ValueError(
            f"prompt: {len(prompt_ids)} tokens do not fit the context of {config.max_seq_len}; shorten it"
        )


def _decode(
    model: Transformer,
    prompt_ids: list[int],
    sampling: SamplingConfig,
    stop_ids: frozenset[int],
    device: torch.device | str,
    n_alternatives: int,
) -> Iterator[Step]:
    config = model.config
    cache = KVCache(config, 1, device=device, dtype=model.embed.weight.dtype)
    sampler = Sampler(sampling)
    seen = set(prompt_ids)
    logits = next_logits(model, torch.tensor([prompt_ids], device=device), cache)  # (V,)
    graphed = GraphedDecode(model, cache) if is_graphed(model, device) else None
    for count in range(1, sampling.max_tokens + 1):
        token_id = sampler.choose(logits, seen)
        step = step_of(
            logits.log_softmax(0),
            token_id,
            n_alternatives=n_alternatives,
            is_stop=token_id in stop_ids,
            is_full=count == sampling.max_tokens or cache.length == config.max_seq_len,
        )
        yield step
        if step.finish_reason is not None:
            return
        seen.add(token_id)
        if graphed is not None:
            logits = graphed.logits(token_id)
        else:
            logits = next_logits(model, torch.tensor([[token_id]], device=device), cache)


def step_of(logprobs: Tensor, token_id: int, *, n_alternatives: int, is_stop: bool, is_full: bool) -> Step:
    """Return the step in which token_id was chosen; logprobs (V,) are the model's own."""
    alternatives: tuple[tuple[int, float], ...] = ()
    if n_alternatives:
        best = logprobs.topk(min(n_alternatives, len(logprobs)))
        alternatives = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return Step(
        token_id=token_id,
        logprob=float(logprobs[token_id]),
        alternatives=alternatives,
        finish_reason="stop" if is_stop else "length" if is_full else None,
    )


def next_logits(model: Transformer, token_ids: Tensor, cache: KVCache) -> Tensor:
    """Feed token_ids (1, T) behind the cache; return the last position's logits (V,), fp32, on the CPU."""
    with torch.inference_mode():
        x = model.hidden_states(token_ids, cache)  # (1, T, C)
        return model.logits(x[:, -1])[0].float().cpu()  # (V,)
