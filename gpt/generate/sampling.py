"""From the logits of one position to one token id.

The order of the dials is the one users know from other engines: repetition penalty, temperature, top-k,
top-p, min-p. Not here: the forward pass (engine.py).
Sources: Keskar et al. 2019, section 4.1 (repetition penalty); Fan et al. 2018 (top-k); Holtzman et al. 2020
(top-p); Nguyen et al. 2024 (min-p).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from gpt.generate.config import SamplingConfig


def probabilities(logits: Tensor, seen: Iterable[int], sampling: SamplingConfig) -> Tensor:
    """Return the distribution (V,), fp32, that the next token is drawn from.

    `logits` is (V,); `seen` holds the ids of the prompt and of what was generated. Temperature 0 gives
    probability 1 to the likeliest token, the smallest id among equals.
    """
    logits = penalize(logits.float(), seen, sampling.repetition_penalty)  # (V,)
    if sampling.temperature == 0:
        return torch.zeros_like(logits).scatter_(0, logits.argmax(), 1.0)
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < len(logits):
        kth = logits.topk(sampling.top_k).values[-1]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if sampling.top_p < 1:
        logits = _keep_nucleus(logits, sampling.top_p)
    if sampling.min_p > 0:
        p = logits.softmax(0)
        logits = logits.masked_fill(p < sampling.min_p * p.max(), -torch.inf)
    return logits.softmax(0)


def penalize(logits: Tensor, seen: Iterable[int], penalty: float) -> Tensor:
    """Make seen tokens less likely (V,): positive logits are divided, negative ones multiplied."""
    ids = sorted(set(seen))
    if penalty == 1 or not ids:
        return logits
    index = torch.tensor(ids, device=logits.device)
    score = logits[index]
    return logits.scatter(0, index, torch.where(score > 0, score / penalty, score * penalty))


def _keep_nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Mask all but the fewest likeliest tokens that reach `top_p` together, (V,)."""
    ordered, order = logits.sort(descending=True, stable=True)
    p = ordered.softmax(0)
    before = p.cumsum(0) - p  # the mass in front of each token; the first always stays
    ordered = ordered.masked_fill(before >= top_p, -torch.inf)
    return torch.empty_like(logits).scatter_(0, order, ordered)


class Sampler:
    """Draws tokens of one request, with a generator of its own."""

    def __init__(self, sampling: SamplingConfig) -> None:
        self.sampling = sampling
        self.generator = torch.Generator().manual_seed(sampling.seed)

    def choose(self, logits: Tensor, seen: Iterable[int]) -> int:
        """Choose a token id from CPU logits (V,).

        Raises FloatingPointError when a logit is NaN or +inf: the weights are damaged.
        """
        if torch.isnan(logits).any() or torch.isposinf(logits).any():
            raise FloatingPointError("the model's logits are not finite; its training diverged")
        p = probabilities(logits, seen, self.sampling)  # (V,)
        if self.sampling.temperature == 0:
            return int(p.argmax())
        return int(torch.multinomial(p, 1, generator=self.generator))
