"""Byte-level BPE, trained fast: what a merge changes is counted, and nothing else.

Equal to naive_bpe.train_naive, in pure Python. Three ideas carry it:
- A token is one character of a Python string, its id the code point: a merge is `str.replace`, which is C.
- Only the new token's neighbours gain a pair, so a pair's count grows in the merge that makes its younger
  token and shrinks ever after. One heap entry a pair is enough: too high when it is old, corrected on top.
- Each pair lists the words that hold it, so a merge visits those alone.
Not here: counting the words of a corpus (count_words.py).
"""

import heapq
import itertools
from collections import Counter, defaultdict

MAX_IDS = 0x110000
"""Code points of Python; a vocabulary of text stays far below."""


def train_bpe(words: Counter[bytes], n_merges: int) -> list[bytes]:
    """Train on counted words; return the tokens in id order, the 256 bytes first.

    Ties go to the smaller pair of ids. Fewer merges come back when no pair is left.
    """
    assert 256 + n_merges <= MAX_IDS, f"{n_merges} merges"
    tokens = [bytes([b]) for b in range(256)]
    texts = [word.decode("latin-1") for word in words]  # one character a byte
    weights = list(words.values())
    where: dict[str, list[int]] = defaultdict(list)  # pair -> its words, once for each occurrence
    for index, text in enumerate(texts):
        for pair in map("".join, itertools.pairwise(text)):
            where[pair].append(index)
    counts: dict[str, int] = {}
    heap: list[tuple[int, str]] = []
    _enter(where, weights, counts, heap)
    while heap and len(tokens) < 256 + n_merges:
        count, pair = heapq.heappop(heap)
        if counts[pair] != -count:  # it shrank since it was entered
            if counts[pair]:
                heapq.heappush(heap, (-counts[pair], pair))
            else:
                del counts[pair], where[pair]
            continue
        left, right = pair[0], pair[1]
        new = chr(len(tokens))
        found: dict[str, list[int]] = defaultdict(list)
        for index in where.pop(pair):
            text = texts[index].replace(pair, new)
            if text == texts[index]:
                continue  # an earlier merge took the pair, or the word stands in the list twice
            texts[index] = text
            weight = weights[index]
            at = text.find(new)
            while at >= 0:
                before, after = text[at - 1 : at], text[at + 1 : at + 2]
                if before and before != new:
                    counts[before + left] -= weight
                    found[before + new].append(index)
                if after:  # two new tokens side by side: the pair between them is counted here, once
                    counts[right + (left if after == new else after)] -= weight
                    found[new + after].append(index)
                at = text.find(new, at + 1)
        del counts[pair]
        where.update(found)
        _enter(found, weights, counts, heap)
        tokens.append(tokens[ord(left)] + tokens[ord(right)])
    return tokens


def _enter(
    found: dict[str, list[int]], weights: list[int], counts: dict[str, int], heap: list[tuple[int, str]]
) -> None:
    """Count new pairs and put them on the heap, the most frequent and then the smallest first."""
    for pair, indexes in found.items():
        counts[pair] = sum(map(weights.__getitem__, indexes))
        heapq.heappush(heap, (-counts[pair], pair))
