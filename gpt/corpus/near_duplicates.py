"""Near-duplicates by MinHash: word shingles, banded signatures, and the exact Jaccard as the judge.

Broder 1997 (shingles, min-wise sketches) and Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*,
chapter 3 (banding). A signature only proposes a pair; whether two documents are near-duplicates is
decided by the Jaccard of their shingle sets. Of two near-duplicates the one that was read first stays,
so that no pair of documents that stay is known to be near, on whatever side of the split they lie.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gpt.corpus.word_hashes import Hashes, mix, shingle

Bands = npt.NDArray[np.uint32]
N_PERMUTATIONS = 128
MISS = 1e-3
"""Accepted chance that a pair at the very threshold shares no band."""
BATCH_CHARS = 2**18
"""Texts are hashed together up to this many characters: long arrays for NumPy, short ones for the cache."""


def choose_bands(threshold: float) -> tuple[int, int]:
    """Return (bands, rows): the most rows with which a pair at the threshold is missed with chance MISS.

    A pair of Jaccard s shares a band with chance 1 - (1 - s^rows)^bands.
    """
    fits = [r for r in range(1, 17) if (1 - threshold**r) ** (N_PERMUTATIONS // r) <= MISS]
    rows = max(fits, default=1)
    return N_PERMUTATIONS // rows, rows


def signatures(texts: Sequence[str], shingle_words: int) -> npt.NDArray[np.uint32]:
    """Return the MinHash signatures (N, N_PERMUTATIONS); of a text without words all are 2^32 - 1."""
    grams, owners = shingle(texts, shingle_words)
    sketch = np.full((len(texts), N_PERMUTATIONS), 0xFFFFFFFF, np.uint32)
    if not len(grams):
        return sketch
    first = np.flatnonzero(np.diff(owners, prepend=-1))
    low, high = grams.astype(np.uint32), (grams >> np.uint64(32)).astype(np.uint32)
    seeds = mix(np.arange(1, N_PERMUTATIONS + 1, dtype=np.uint64)).astype(np.uint32)
    for k, seed in enumerate(seeds):
        order = (low ^ seed) * np.uint32(0x9E3779B1)  # one to one on 32 bits
        order ^= order >> np.uint32(15)
        order = (order + high) * (seed | np.uint32(1))
        sketch[owners[first], k] = np.minimum.reduceat(order, first)
    return sketch


def band_keys(texts: Sequence[str], *, threshold: float, shingle_words: int) -> Bands:
    """Return the texts' band keys (N, bands), 4 bytes each: equal keys in a band propose a pair."""
    bands, rows = choose_bands(threshold)
    parts = []
    for start, end in _batches(texts):
        sketch = signatures(texts[start:end], shingle_words)[:, : bands * rows].astype(np.uint64)
        keys = np.zeros((end - start, bands), np.uint64)
        for row in sketch.reshape(end - start, bands, rows).transpose(2, 0, 1):
            keys = mix(keys + row)
        parts.append((keys >> np.uint64(32)).astype(np.uint32))
    return np.concatenate(parts) if parts else np.zeros((0, bands), np.uint32)


def jaccard(one: Hashes, other: Hashes) -> float:
    """Return |A and B| / |A or B| of two arrays of distinct shingles; two empty ones give 0."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / max(len(one) + len(other) - both, 1)


def near_duplicates(
    keys: Bands, text_at: Callable[[int], str], *, threshold: float, shingle_words: int
) -> Iterator[tuple[int, int]]:
    """Yield (document, earlier one that stays) of every near-duplicate, in the order of the documents.

    `text_at` gives a document's text again: only proposed pairs are read. Only pairs of equal band
    keys are held in memory beside the keys.
    """

    @lru_cache(maxsize=256)
    def shingles_at(place: int) -> Hashes:
        return np.unique(shingle([text_at(place)], shingle_words)[0])

    shared: dict[int, list[tuple[int, int]]] = {}  # document -> its (band, key) that others have too
    for band in range(keys.shape[1]):
        _, group, counts = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        for row in np.flatnonzero(counts[group] > 1).tolist():
            shared.setdefault(row, []).append((band, int(keys[row, band])))
    staying: dict[tuple[int, int], list[int]] = {}
    for place in sorted(shared):
        votes: dict[int, int] = {}
        for band_key in shared[place]:
            for earlier in staying.get(band_key, ()):
                votes[earlier] = votes.get(earlier, 0) + 1
        candidates = sorted(votes, key=lambda earlier: (-votes[earlier], earlier))
        own = shingles_at(place) if candidates else None
        near = (e for e in candidates if own is not None and jaccard(own, shingles_at(e)) >= threshold)
        twin = next(near, None)
        if twin is not None:
            yield place, twin
            continue
        for band_key in shared[place]:
            staying.setdefault(band_key, []).append(place)


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    start = size = 0
    for end, text in enumerate(texts):
        if size and size + len(text) > BATCH_CHARS:
            yield start, end
            start, size = end, 0
        size += len(text)
    if start < len(texts):
        yield start, len(texts)
