"""Byte-level BPE, trained: merge the most frequent neighbouring pair, again and again.

Source: Sennrich et al. 2016, algorithm 1, over bytes as in GPT-2. Two trainers with equal results:
`train_naive` recounts everything after every merge and reads like the algorithm; `train_bpe` keeps pair
counts and the words in which each pair occurs, and touches only those. Ties go to the smaller pair.
"""

import heapq
import itertools
from collections import Counter, defaultdict

Pair = tuple[int, int]


def train_naive(words: Counter[bytes], n_merges: int) -> dict[bytes, int]:
    """Train by recounting; the oracle of train_bpe. Returns {token bytes: rank}.

    >>> sorted(train_naive(Counter({b"aab": 2, b"ab": 1}), 2).items())[97:100]
    [(b'a', 97), (b'aab', 257), (b'ab', 256)]
    """
    ranks = {bytes([b]): b for b in range(256)}
    token = [bytes([b]) for b in range(256)]
    split = {word: list(word) for word in words}
    for _ in range(n_merges):
        counts: Counter[Pair] = Counter()
        for word, ids in split.items():
            for pair in itertools.pairwise(ids):
                counts[pair] += words[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        split = {word: merge_pair(ids, best, len(token)) for word, ids in split.items()}
        ranks[token[best[0]] + token[best[1]]] = len(token)
        token.append(token[best[0]] + token[best[1]])
    return ranks


def train_bpe(words: Counter[bytes], n_merges: int) -> dict[bytes, int]:
    """Train with incremental pair counts and a heap; same result as train_naive, much sooner."""
    ranks = {bytes([b]): b for b in range(256)}
    token = [bytes([b]) for b in range(256)]
    ids = [list(word) for word in words]
    weight = list(words.values())
    counts: dict[Pair, int] = defaultdict(int)
    where: dict[Pair, set[int]] = defaultdict(set)
    for index, word in enumerate(ids):
        for pair in itertools.pairwise(word):
            counts[pair] += weight[index]
            where[pair].add(index)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    while heap and len(token) < 256 + n_merges:
        count, best = heapq.heappop(heap)
        if -count != counts.get(best, 0) or count == 0:
            continue  # stale: every change of a count pushes a fresh entry
        new_id = len(token)
        changed: set[Pair] = set()
        for index in where.pop(best):
            word, n = ids[index], weight[index]
            for pair in itertools.pairwise(word):
                counts[pair] -= n
                changed.add(pair)
            word = ids[index] = merge_pair(word, best, new_id)
            for pair in itertools.pairwise(word):
                counts[pair] += n
                where[pair].add(index)
                changed.add(pair)
        for pair in changed:
            if counts[pair] > 0:
                heapq.heappush(heap, (-counts[pair], pair))
            else:
                del counts[pair]
        ranks[token[best[0]] + token[best[1]]] = new_id
        token.append(token[best[0]] + token[best[1]])
    return ranks


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
