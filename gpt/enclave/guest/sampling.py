"""Choose the next token: greedy, temperature, top-k, top-p. One generator, seeded by the request."""

import numpy as np


def sample(
    logits: np.ndarray, temperature: float, top_k: int, top_p: float, generator: np.random.Generator
) -> int:
    """Return a token id from logits (V,). Temperature 0 is greedy; top_k 0 and top_p 1 keep every token."""
    if temperature == 0:
        return int(np.argmax(logits))
    order = np.argsort(-logits, kind="stable")  # (V,) best first
    below = (logits[order] - logits[order[0]]).astype(np.float64)  # (V,) 0 and less
    with np.errstate(over="ignore"):  # a tiny temperature makes -inf, which is the probability 0
        probabilities = np.exp(below / temperature)
    probabilities /= probabilities.sum()
    if top_k:
        order, probabilities = order[:top_k], probabilities[:top_k]
        probabilities = probabilities / probabilities.sum()
    mass_before = np.cumsum(probabilities) - probabilities
    kept = max(1, int(np.count_nonzero(mass_before < top_p)))  # the least set that reaches top_p
    cumulative = np.cumsum(probabilities[:kept])
    draw = generator.random() * cumulative[-1]
    return int(order[min(int(np.searchsorted(cumulative, draw, side="right")), kept - 1)])
