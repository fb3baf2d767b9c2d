"""Count the words of a corpus larger than memory: part by part, on all cores."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from gpt.tokenizer.count_words import count_words
from gpt.workers.config import WorkersConfig
from gpt.workers.map_parts import map_parts

Part = TypeVar("Part")


def count_parts(
    parts: Sequence[Part], read: Callable[[Part], Iterable[str]], pattern: str, workers: WorkersConfig
) -> Counter[bytes]:
    """Count words; a process reads and counts one part at a time, and only counts come back.

    `read` yields the texts of a part; it and the parts must pickle. Any cut into parts and any number of
    processes give the same counts.
    """
    words: Counter[bytes] = Counter()
    for counted in map_parts(partial(_count_part, read, pattern), parts, workers):
        words.update(counted)
    return words


def _count_part(read: Callable[[Part], Iterable[str]], pattern: str, part: Part) -> Counter[bytes]:
    return count_words(read(part), pattern)
