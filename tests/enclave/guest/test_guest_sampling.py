"""The guest's sampling against probabilities derived by hand."""

from collections import Counter

import numpy as np
import pytest

from gpt.enclave.guest.sampling import sample

LOGITS = np.log(np.array([0.1, 0.5, 0.15, 0.25], np.float32))


def shares(temperature: float, top_k: int, top_p: float, n: int = 4000) -> list[float]:
    """Return how often each id is drawn."""
    generator = np.random.default_rng(3)
    drawn = Counter(sample(LOGITS, temperature, top_k, top_p, generator) for _ in range(n))
    return [drawn[i] / n for i in range(4)]


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "expected"),
    [
        (1.0, 0, 1.0, [0.1, 0.5, 0.15, 0.25]),
        (1.0, 2, 1.0, [0, 2 / 3, 0, 1 / 3]),
        (1.0, 0, 0.7, [0, 2 / 3, 0, 1 / 3]),  # 0.5 is less than 0.7, 0.75 is not
        (1.0, 0, 0.0, [0, 1, 0, 0]),
        (0.5, 0, 1.0, [0.01 / 0.345, 0.25 / 0.345, 0.0225 / 0.345, 0.0625 / 0.345]),  # squares
        (1e-300, 0, 1.0, [0, 1, 0, 0]),
        (0.0, 0, 1.0, [0, 1, 0, 0]),
    ],
)
def test_shares(temperature: float, top_k: int, top_p: float, expected: list[float]) -> None:
    """Guards the wrong side of a cut, temperature in the wrong place and an overflow; 4 sigma of 4000."""
    assert shares(temperature, top_k, top_p) == pytest.approx(expected, abs=0.032)


def test_a_seed_repeats() -> None:
    """Guards a hidden generator."""
    draws = [
        [sample(LOGITS, 1.0, 0, 1.0, g) for _ in range(20)] for g in map(np.random.default_rng, (7, 7, 8))
    ]
    assert draws[0] == draws[1] != draws[2]
