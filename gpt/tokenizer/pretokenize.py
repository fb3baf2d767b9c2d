"""Split patterns: how text falls into words before any merge. A merge never crosses a word.

Source of gpt2: Radford et al. 2019, in the regex dialect that tiktoken's engine runs. smollm is gpt2 applied
between digits, each digit a word by itself: a space in front of a digit stays alone, so the run of spaces
that ends at a digit is one word.
"""

from collections import Counter
from collections.abc import Iterable

import tiktoken

PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "smollm": r"\p{N}|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+",
}


def split_words(text: str, pattern: str) -> list[bytes]:
    """Split text into the byte strings that the pattern matches."""
    import regex  # only training splits in Python; encoding splits inside tiktoken

    return [word.encode() for word in regex.findall(pattern, text)]


def count_words(texts: Iterable[str], pattern: str) -> Counter[bytes]:
    """Count the words of many texts: merges depend on nothing else."""
    counts: Counter[bytes] = Counter()
    for text in texts:
        counts.update(split_words(text, pattern))
    return counts


def engine(ranks: dict[bytes, int], pattern: str, special_tokens: dict[str, int]) -> tiktoken.Encoding:
    """Return tiktoken's engine over our own ranks."""
    return tiktoken.Encoding(
        name="rawgpt", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special_tokens
    )
