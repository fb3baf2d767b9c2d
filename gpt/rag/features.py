"""A text as hashed features: its words, and their pieces of n characters with `<` and `>` at the ends.

A feature is the CRC-32 of its UTF-8 bytes, so an index holds numbers and no vocabulary. Two features of one
index share a number with a chance of about n^2 / 2^33 (n distinct ones): their weights then add up.
"""

import unicodedata
import zlib
from functools import lru_cache

import numpy as np
import regex

LETTERS = r"\p{L}\p{M}\p{N}"
"""What words are made of: letters, marks, digits. Python's own \\w would cut a Hindi word at its vowel
signs."""
WORD = regex.compile(f"[{LETTERS}]+")


def words(text: str) -> list[str]:
    """Return the words of a text, case and compatibility forms folded."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def feature_ids(text: str, ngram_chars: int) -> np.ndarray:
    """Return the text's features in order, repeats kept: int64 (n,)."""
    ids = [feature for word in words(text) for feature in _features_of(word, ngram_chars)]
    return np.array(ids, dtype=np.int64)


@lru_cache(maxsize=1 << 18)
def _features_of(word: str, n: int) -> tuple[int, ...]:
    pieces = [word]
    if n:
        framed = f"<{word}>"
        pieces += [f"#{framed[i : i + n]}" for i in range(max(1, len(framed) - n + 1))]
    return tuple(zlib.crc32(piece.encode()) for piece in pieces)
