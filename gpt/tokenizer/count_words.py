"""Count the words of texts: all that training BPE reads of a corpus, and most of its time.

Text repeats itself. A chunk, white space and what stands behind it, is cut by the standard library in half
the time that the split pattern takes; the pattern then splits each distinct chunk once.
In memory: one document, and one count for each distinct chunk of a part.
"""

import re
from collections import Counter
from collections.abc import Iterable

from gpt.tokenizer.pretokenize import PATTERNS, pieces, splitter

CHUNKED = (PATTERNS["gpt2"], PATTERNS["smollm"])
"""Patterns that end a word wherever white space begins, so that the words of a text are its chunks' words.
modern joins punctuation with the line break behind it."""
# Unicode's White_Space, which is \s of the patterns; the standard library's \s takes U+001C to U+001F, too.
WHITE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
CHUNK = re.compile(f"[{WHITE}]*[^{WHITE}]+|[{WHITE}]+")


def count_words(texts: Iterable[str], pattern: str) -> Counter[bytes]:
    """Count the words of texts, which are read one at a time."""
    words_of = splitter(pattern)
    chunks_of = CHUNK.findall if pattern in CHUNKED else words_of
    chunks: Counter[str] = Counter()
    for text in texts:
        for piece in pieces(text, pattern):
            chunks.update(chunks_of(piece))
    if pattern not in CHUNKED:
        return Counter({word.encode(): count for word, count in chunks.items()})
    words: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for word in words_of(chunk):
            words[word] += count
    return Counter({word.encode(): count for word, count in words.items()})
