"""Documents into passages: whole sentences, up to a number of tokens, each passage overlapping the last.

A sentence ends at a full stop, question or exclamation mark (also the danda and the CJK full stop) before
white space, and at every blank line; one that is longer than a passage is halved between words, a word
between characters, until it fits. Where a paragraph ends in the second half of a passage, the passage ends
there. Not a parser of Markdown: its marks are characters like others.
"""

import itertools
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator

from gpt.rag.config import ChunkConfig
from gpt.rag.passages import Document, Passage

Span = tuple[int, int]
END = re.compile(r"(?<=[.!?।。])[\"'”’)\]]*\s+|[ \t]*\n[ \t]*\n\s*")


def sentences(text: str) -> list[Span]:
    """Return the sentences as (start, end), without the white space around them."""
    cuts = [0, *(match.end() for match in END.finditer(text)), len(text)]
    return [span for a, b in itertools.pairwise(cuts) if (span := _stripped(text, a, b))[0] < span[1]]


def chunk_document(
    document: Document, config: ChunkConfig, count_tokens: Callable[[str], int]
) -> list[Passage]:
    """Cut one document into passages of at most config.max_tokens, in order.

    A passage's tokens are counted sentence by sentence: the whole may have one or two fewer.
    """
    text = document.text
    units = [u for s in sentences(text) for u in _fitting(text, s, config.max_tokens, count_tokens)]
    sizes = [count_tokens(f" {text[a:b]}") for a, b in units]
    line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
    passages = []
    first = 0
    while first < len(units):
        last, used = first + 1, sizes[first]
        while last < len(units) and used + sizes[last] <= config.max_tokens:
            gap = text[units[last - 1][1] : units[last][0]]
            if used > config.max_tokens // 2 and gap.count("\n") > 1:
                break
            used += sizes[last]
            last += 1
        start, end = units[first][0], units[last - 1][1]
        passages.append(
            Passage(
                document=document.id,
                start=start,
                end=end,
                line=bisect_right(line_starts, start),
                text=text[start:end],
            )
        )
        if last == len(units):
            break
        first = _overlapping(sizes, first, last, min(config.overlap_tokens, config.max_tokens - sizes[last]))
    return passages


def _overlapping(sizes: list[int], first: int, last: int, overlap: int) -> int:
    """Return where the next passage begins: as far before `last` as the overlap allows, behind `first`.

    The overlap leaves room for the sentence at `last`: a passage of old sentences alone would say nothing.
    """
    begin, shared = last, 0
    while begin - 1 > first and shared + sizes[begin - 1] <= overlap:
        begin -= 1
        shared += sizes[begin]
    return begin


def _stripped(text: str, start: int, end: int) -> Span:
    """Return the span without the white space at its ends."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def _fitting(text: str, span: Span, limit: int, count: Callable[[str], int]) -> Iterator[Span]:
    """Yield the span, or pieces of it that fit the limit."""
    start, end = span
    if count(f" {text[start:end]}") <= limit:
        yield span
        return
    middle = (start + end) // 2
    spaces = [start + match.end() for match in re.finditer(r"\s+", text[start:end])]
    cut = min(spaces, key=lambda place: abs(place - middle), default=middle)
    if cut == start:  # one character: it may be several tokens, and a piece is never empty
        yield span
        return
    for half in (_stripped(text, start, cut), _stripped(text, cut, end)):
        yield from _fitting(text, half, limit, count)
