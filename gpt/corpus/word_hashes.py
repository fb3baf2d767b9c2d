"""Words of many texts as 64-bit hashes, and their n-grams, in NumPy: the same numbers everywhere.

A word is a run of letters, digits and combining marks after case folding; punctuation parts words and
apostrophes vanish ("don't" is "dont"), so that a copy with other case, quotes or spaces hashes the same.
Not cryptographic: whoever wants two words to collide can make them.
"""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Owners = npt.NDArray[np.int64]
SEPARATOR = "\x00"
"""Stands between the texts of one call; inside a text it counts as a space."""
APOSTROPHES = "'\u2019\u02bc"
IS_WORD = np.array(
    [b >= 0x80 or chr(b).isalnum() for b in range(256)]  # other scripts' punctuation is a space by then
)


class _Plain(dict[int, str | None]):
    """A translation table that learns the characters it meets: what is no letter becomes a space."""

    def __missing__(self, code: int) -> str | None:
        kind = unicodedata.category(chr(code))[0]
        is_joiner = code in (0x200C, 0x200D)  # within Indic words
        self[code] = None if chr(code) in APOSTROPHES or is_joiner else chr(code) if kind in "LNM" else " "
        return self[code]


PLAIN = _Plain()
NON_ASCII = re.compile(r"[^\x00-\x7f]+")


def mix(values: Hashes) -> Hashes:
    """Scramble 64-bit numbers one to one (the finalizer of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


BYTES = mix(np.arange(1, 257, dtype=np.uint64))


def plain_bytes(texts: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Return the texts, case folded and one after another with a zero byte between, in UTF-8."""
    text = SEPARATOR.join(t.replace(SEPARATOR, " ") for t in texts)
    if text.isascii():
        content = text.lower().encode().translate(None, b"'")
    else:
        folded = unicodedata.normalize("NFKC", text).casefold()
        content = NON_ASCII.sub(lambda run: run.group().translate(PLAIN), folded).encode()
        content = content.translate(None, b"'")
    return np.frombuffer(content, np.uint8)


def hash_words(texts: Sequence[str]) -> tuple[Hashes, Owners]:
    """Return every word's hash (W,) and the place of its text in `texts` (W,)."""
    content = plain_bytes(texts)
    is_word = IS_WORD[content]
    edges = np.flatnonzero(np.diff(is_word, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    lengths = ends - starts
    powers = mix(np.arange(int(lengths.max()), dtype=np.uint64)) | np.uint64(1)
    letters = BYTES[content[is_word]]
    first = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    within = np.arange(len(letters)) - np.repeat(first, lengths)
    words = np.add.reduceat(letters * powers[within], first)
    owners = np.searchsorted(np.flatnonzero(content == 0), starts)
    return mix(words), owners.astype(np.int64)


def hash_grams(words: Hashes, owners: Owners, n: int) -> tuple[Hashes, Owners]:
    """Return the hashes of the n-grams (G,) that lie within one text, and their texts (G,)."""
    if len(words) < n:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    last = len(words) - n + 1
    grams = words[:last].copy()
    for k in range(1, n):
        grams = grams * np.uint64(0x9E3779B97F4A7C15) + words[k : k + last]
    whole = owners[:last] == owners[n - 1 :]
    return mix(grams[whole]), owners[:last][whole]


def shingle(texts: Sequence[str], n: int) -> tuple[Hashes, Owners]:
    """Return the texts' n-grams; a text of fewer than n words is one shingle, an empty one is none."""
    words, owners = hash_words(texts)
    grams, places = hash_grams(words, owners, n)
    counts = np.bincount(owners, minlength=len(texts))
    short = np.flatnonzero((counts > 0) & (counts < n))
    if not len(short):
        return grams, places
    first = np.flatnonzero(np.diff(owners, prepend=-1))
    within = np.arange(len(words)) - np.repeat(first, counts[owners[first]])
    weights = mix(within.astype(np.uint64)) | np.uint64(1)
    whole = mix(np.add.reduceat(words * weights, first))[np.searchsorted(owners[first], short)]
    order = np.argsort(np.concatenate((places, short)), kind="stable")
    return np.concatenate((grams, whole))[order], np.concatenate((places, short))[order]
