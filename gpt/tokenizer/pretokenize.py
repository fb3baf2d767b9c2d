"""Split patterns: how text falls into words before any merge. A merge never crosses a word.

Sources: gpt2 is Radford et al. 2019's, in the regex dialect that tiktoken's engine runs. smollm is gpt2
applied between digits, each digit a word by itself: a space in front of a digit stays alone, so the run of
spaces that ends at a digit is one word. modern does what tokenizers since GPT-4 do, in our words: marks
belong to their letters (a Devanagari vowel sign does not end a word), any one character may lead a word,
contractions in either case, digits in threes, line breaks with the punctuation or the space before them.
"""

from collections.abc import Callable, Iterator

PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "smollm": r"\p{N}|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+",
    "modern": (
        r"'(?:[sdmtSDMT]|[lL]{2}|[vV][eE]|[rR][eE])"
        r"|[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+"
        r"|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
MAX_PIECE = 2**16
"""Characters. The engine takes n log n for a word of n, and its pattern fails on a million white spaces."""


def pieces(text: str, pattern: str, limit: int = MAX_PIECE) -> Iterator[str]:
    """Yield a long text in pieces of at most `limit` characters; its words are the words of the pieces.

    A piece ends in front of a space that follows something else than white space, where all PATTERNS end a
    word; only a run of `limit` characters without such a place is cut inside, and so may one word be. A
    pattern of others may join what stands there, so its text stays whole.
    """
    start = 0
    while len(text) - start > limit and pattern in PATTERNS.values():
        end = text.rfind(" ", start + 1, start + limit + 1)
        while end > 0 and text[end - 1].isspace():
            end = text.rfind(" ", start + 1, end)
        if end < 0:
            end = start + limit
        yield text[start:end]
        start = end
    yield text[start:]


def splitter(pattern: str) -> Callable[[str], list[str]]:
    """Return the function that splits a piece of text into what the pattern matches."""
    import regex  # only training splits in Python; encoding splits inside tiktoken

    return regex.compile(pattern).findall


def split_words(text: str, pattern: str) -> list[bytes]:
    """Split text into words, as bytes."""
    split = splitter(pattern)
    return [word.encode() for piece in pieces(text, pattern) for word in split(piece)]
