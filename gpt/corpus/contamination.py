"""Which evaluation items stand in a training text: 13-grams of words, and whole short items.

Brown et al. 2020, *Language Models are Few-Shot Learners*, appendix C: an item is contaminated when one
of its 13-grams (case folded, without punctuation) occurs in the corpus. Two differences: an item of
fewer than 13 words is looked for whole, as its run of letters and digits, when it has 32 of them or
more (shorter ones are counted as untested); and no n-gram is forgiven for being frequent, so that a
quotation that everybody uses counts. In memory: the items' hashes; the corpus is streamed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpt.corpus.evaluation_sets import Item
from gpt.corpus.word_hashes import Hashes, Owners, hash_grams, hash_words, mix, plain_bytes

GRAM_WORDS = 13
SHORT_BYTES = 32
"""UTF-8 bytes of letters that a short item needs: about seven English words."""
FILTER_BITS = 22
BATCH_CHARS = 2**20
BASE = 0x9E3779B97F4A7C15


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationIndex:
    """The n-grams of the evaluation items, hashed and sorted; it pickles, for worker processes."""

    sizes: dict[str, int]
    """Items of each set, in the order in which they are numbered."""
    untested: dict[str, int]
    """Of those, the ones too short to be looked for."""
    grams: Hashes
    gram_items: Owners
    """The item of each n-gram."""
    heads: Hashes
    """Hash of the first SHORT_BYTES letters of each short item."""
    head_items: Owners
    short: dict[int, bytes]
    """All letters of the short items, by item."""

    def find(self, texts: Sequence[str]) -> list[frozenset[int]]:
        """Return the items that each text holds."""
        found: list[set[int]] = [set() for _ in texts]
        if not self.sizes:
            return [frozenset() for _ in texts]
        grams, owners = hash_grams(*hash_words(texts), GRAM_WORDS)
        for place, item in zip(*_lookup(self.grams, self.gram_items, grams), strict=True):
            found[owners[place]].add(int(item))
        letters, ends = _letters(texts)
        for place, item in zip(*_lookup(self.heads, self.head_items, _windows(letters)), strict=True):
            whole = self.short[int(item)]
            owner = int(np.searchsorted(ends, place, side="right"))
            if letters[place : min(place + len(whole), ends[owner])].tobytes() == whole:
                found[owner].add(int(item))
        return [frozenset(items) for items in found]

    def by_set(self, items: set[int] | frozenset[int]) -> dict[str, dict[str, int | float]]:
        """Count items by set: how many it has, how many are among `items`, and the share."""
        table: dict[str, dict[str, int | float]] = {}
        start = 0
        for name, size in self.sizes.items():
            n = sum(start <= item < start + size for item in items)
            share = n / max(size - self.untested[name], 1)
            table[name] = {"items": size, "untested": self.untested[name], "contaminated": n}
            table[name]["share"] = round(share, 6)
            start += size
        return table


def index_items(sets: dict[str, list[Item]]) -> EvaluationIndex:
    """Hash the items of the sets (see evaluation_sets)."""
    pieces: list[str] = []
    item_of: list[int] = []
    sizes, first = {}, 0
    for name, items in sets.items():
        sizes[name] = len(items)
        for number, item in enumerate(items):
            pieces += item
            item_of += [first + number] * len(item)
        first += len(items)
    owner_items = np.array(item_of, np.int64)
    words, owners = hash_words(pieces)
    grams, places = hash_grams(words, owners, GRAM_WORDS)
    tested = set(owner_items[places].tolist())
    short: dict[int, bytes] = {}
    for piece, number in zip(pieces, item_of, strict=True):
        if number not in tested:
            letters, _ = _letters([piece])
            if len(letters) >= SHORT_BYTES:
                short[number] = letters.tobytes()
    tested |= set(short)
    untested, start = {}, 0
    for name, size in sizes.items():
        untested[name] = size - sum(number in tested for number in range(start, start + size))
        start += size
    heads = [_windows(np.frombuffer(whole[:SHORT_BYTES], np.uint8))[0] for whole in short.values()]
    order = np.argsort(grams, kind="stable")
    head_order = np.argsort(np.array(heads, np.uint64), kind="stable")
    return EvaluationIndex(
        sizes=sizes,
        untested=untested,
        grams=grams[order],
        gram_items=owner_items[places][order],
        heads=np.array(heads, np.uint64)[head_order],
        head_items=np.array(list(short), np.int64)[head_order],
        short=short,
    )


def _lookup(table: Hashes, items: Owners, keys: Hashes) -> tuple[Owners, Owners]:
    """Return (place in keys, item) of every key that stands in the sorted table."""
    if not len(table) or not len(keys):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    shift = np.uint64(64 - FILTER_BITS)
    maybe = np.zeros(1 << FILTER_BITS, np.bool_)  # most keys end here, without a search
    maybe[table >> shift] = True
    places = np.flatnonzero(maybe[keys >> shift])
    left = np.searchsorted(table, keys[places], side="left")
    counts = np.searchsorted(table, keys[places], side="right") - left
    first = np.repeat(left - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
    return np.repeat(places, counts), items[first + np.arange(int(counts.sum()))]


def _letters(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint8], Owners]:
    """Return the texts' letters and digits (L,) one after another, and where each text ends."""
    content = plain_bytes(texts)
    is_letter = (content >= 0x80) | np.isin(content, np.frombuffer(ALNUM, np.uint8))
    ends = np.append(np.flatnonzero(content == 0), len(content))
    return content[is_letter], np.concatenate(([0], np.cumsum(is_letter)))[ends].astype(np.int64)


def _windows(letters: npt.NDArray[np.uint8]) -> Hashes:
    """Hash every window of SHORT_BYTES letters, by doubling: 32 in five steps."""
    hashes = letters.astype(np.uint64) + np.uint64(1)
    width, power = 1, BASE
    while width < SHORT_BYTES:
        hashes = hashes[:-width] * np.uint64(power) + hashes[width:] if len(hashes) > width else hashes[:0]
        width, power = width * 2, power * power % 2**64
    return mix(hashes)


ALNUM = bytes(b for b in range(128) if chr(b).isalnum())
