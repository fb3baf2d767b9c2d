"""From the logits of one position to one token id, for one row or many.

The order of the dials is the one users know from other engines: repetition penalty, temperature, top-k,
top-p, min-p. Not here: the forward pass (engine.py).
Sources: Keskar et al. 2019, section 4.1 (repetition penalty); Fan et al. 2018 (top-k); Holtzman et al. 2020
(top-p); Nguyen et al. 2024 (min-p).
"""

from collections.abc import Collection, Iterable, Sequence

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
    is_out = before >= top_p
    is_out[..., 0] = False  # fp32 has no 1e-300: compared with 0, the first would leave too
    ordered = ordered.masked_fill(is_out, -torch.inf)
    return torch.empty_like(logits).scatter_(0, order, ordered)


class Sampler:
    """Draws tokens of one request, with a generator of its own."""

    def __init__(self, sampling: SamplingConfig) -> None:
        self.sampling = sampling
        self.generator = torch.Generator().manual_seed(sampling.seed)

    def uniform(self) -> float:
        """Return the next number in 0..1 of this request's own."""
        return float(torch.rand((), dtype=torch.float64, generator=self.generator))

    def choose(self, logits: Tensor, seen: Collection[int]) -> int:
        """Choose a token id from CPU logits (V,); raises FloatingPointError as `choose_all` does."""
        return choose_all([self], logits[None], [seen])[0]


def choose_all(samplers: Sequence[Sampler], logits: Tensor, seen: Sequence[Collection[int]]) -> list[int]:
    """Choose a token id for each row of CPU logits (R, V), by its own dials and its own generator.

    Rows without dials that look at single tokens go together; what a row gets is what it gets alone. Raises
    FloatingPointError when a logit is NaN or +inf: the weights are damaged.
    """
    check_finite(logits)
    chosen = logits.argmax(dim=-1).tolist()
    for row, (sampler, ids) in enumerate(zip(samplers, seen, strict=True)):
        if sampler.sampling.temperature == 0 and sampler.sampling.repetition_penalty != 1:
            chosen[row] = int(probabilities(logits[row], ids, sampler.sampling).argmax())
    drawn = [row for row, sampler in enumerate(samplers) if sampler.sampling.temperature != 0]
    if not drawn:
        return chosen
    temperatures = torch.tensor([samplers[row].sampling.temperature for row in drawn])
    p = (logits[drawn].float() / temperatures[:, None]).softmax(dim=-1)  # (rows drawn, V)
    for place, row in enumerate(drawn):
        if not _is_plain(samplers[row].sampling):
            p[place] = probabilities(logits[row], seen[row], samplers[row].sampling)
    uniforms = torch.tensor([samplers[row].uniform() for row in drawn], dtype=torch.float64)
    for row, token_id in zip(drawn, draw(p, uniforms).tolist(), strict=True):
        chosen[row] = token_id
    return chosen


def check_finite(logits: Tensor) -> None:
    """Raise FloatingPointError when a logit is NaN or +inf."""
    if not bool((logits < torch.inf).all()):  # false for NaN too
        raise FloatingPointError("the model's logits are not finite; its training diverged")


def _is_plain(sampling: SamplingConfig) -> bool:
    """Return whether temperature is all that shapes the distribution."""
    dials = (sampling.repetition_penalty, sampling.top_k, sampling.top_p, sampling.min_p)
    return dials == (1, 0, 1, 0)


def draw(p: Tensor, uniforms: Tensor) -> Tensor:
    """Return the token (R,) of each distribution (R, V) at which its sum passes uniforms (R,) float64.

    p need not sum to 1; a token of probability 0 is never drawn.
    """
    total = p.double().cumsum(dim=-1)  # (R, V)
    place = torch.searchsorted(total, uniforms[:, None] * total[:, -1:], right=True)
    last = torch.searchsorted(total, total[:, -1:].contiguous())  # the last that has a share
    return place.minimum(last)[:, 0]
