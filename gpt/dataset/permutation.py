"""A permutation of 0..n-1 computed where it is asked for: nothing is stored, every element costs the same.

A Feistel network (Luby and Rackoff 1988) with halves of unequal width permutes 0..2^b - 1, the smallest
power of two that holds n; what it sends beyond n - 1 goes through it again until it falls below (cycle
walking: Black and Rogaway 2002, section 3), fewer than two passes on average. It shuffles and hides
nothing: not for cryptography.
"""

import numpy as np

ROUNDS = 8
MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
"""Odd constants of SplitMix64's last step (Steele et al. 2014): each input bit reaches every output bit."""


class FeistelPermutation:
    """One permutation of n numbers, named by a seed sequence."""

    def __init__(self, n: int, seed: list[int]) -> None:
        assert 1 <= n <= 2**62, n
        bits = max(2, (n - 1).bit_length())
        self.n = n
        self._low_bits = np.uint64(bits // 2)
        self._low = np.uint64(2 ** (bits // 2) - 1)
        self._high = np.uint64(2 ** (bits - bits // 2) - 1)
        self._keys = np.random.default_rng(seed).integers(2**64, size=ROUNDS, dtype=np.uint64)

    def __call__(self, index: np.ndarray) -> np.ndarray:
        """Return where each of index (any shape, 0..n-1) is sent, int64."""
        out = self._network(index.astype(np.uint64))
        while (outside := out >= self.n).any():
            out[outside] = self._network(out[outside])
        return out.astype(np.int64)

    def _network(self, x: np.ndarray) -> np.ndarray:
        high, low = x >> self._low_bits, x & self._low
        for i in range(0, ROUNDS, 2):
            high = high ^ (_mix(low + self._keys[i]) & self._high)
            low = low ^ (_mix(high + self._keys[i + 1]) & self._low)
        return high << self._low_bits | low


def _mix(x: np.ndarray) -> np.ndarray:
    """Scatter each uint64 over all 64 bits."""
    x = (x ^ x >> np.uint64(30)) * MULTIPLIERS[0]
    x = (x ^ x >> np.uint64(27)) * MULTIPLIERS[1]
    return x ^ x >> np.uint64(31)
