"""Byte-level BPE as the chapter tells it: training that recounts, encoding that looks for the next merge.

The oracle of train_bpe.py and of the engine that encodes; far too slow for a corpus.
Source: Sennrich et al. 2016, algorithm 1, over bytes as in GPT-2. Ties go to the smaller pair of ids.
"""

import itertools
from collections import Counter

from gpt.tokenizer.pretokenize import split_words

Pair = tuple[int, int]


def train_naive(words: Counter[bytes], n_merges: int) -> list[bytes]:
    """Train by recounting everything for every merge; return the tokens in id order, the bytes first.

    >>> train_naive(Counter({b"aab": 2, b"ab": 1}), 2)[256:]
    [b'ab', b'aab']
    """
    tokens = [bytes([b]) for b in range(256)]
    split = {word: list(word) for word in words}
    for _ in range(n_merges):
        counts: Counter[Pair] = Counter()
        for word, ids in split.items():
            for pair in itertools.pairwise(ids):
                counts[pair] += words[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        split = {word: merge_pair(ids, best, len(tokens)) for word, ids in split.items()}
        tokens.append(tokens[best[0]] + tokens[best[1]])
    return tokens


def merge_pair(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    """Replace every occurrence of `pair`, left to right.

    >>> merge_pair([1, 1, 1, 2], (1, 1), 9)
    [9, 1, 2]
    """
    merged, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def encode_naive(text: str, ranks: dict[bytes, int], pattern: str) -> list[int]:
    """Encode word by word: join the neighbours whose token came first, until no neighbours make a token."""
    ids = []
    for word in split_words(text, pattern):
        parts = [word[i : i + 1] for i in range(len(word))]
        while joined := [ranks[a + b] for a, b in itertools.pairwise(parts) if a + b in ranks]:
            first = min(joined)
            i = next(i for i, (a, b) in enumerate(itertools.pairwise(parts)) if ranks.get(a + b) == first)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        ids += [ranks[part] for part in parts]
    return ids
