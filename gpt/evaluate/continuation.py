"""A choice task made from any held-out text: which of four passages goes on from here?

The right ending is what follows the context; three others stand elsewhere in the same document, begin at
a word in the middle of a line as it does, and are the nearest in length of those drawn. Chance is 1/4.
The same text, dials and seed give the same items. It measures no more than fit to this corpus.
"""

import re
from collections.abc import Sequence

import numpy as np

from gpt.evaluate.multiple_choice import Item
from gpt.evaluate.score import evenly

N_DISTRACTORS = 3
N_CANDIDATES = 32
"""Places drawn for one item, of which the nearest in length are taken."""
WORD_START = re.compile(r"(?<=\S) (?=[^\W\d_])")
"""A single space with a letter behind it."""
WHITESPACE = re.compile(r"\s")


def continuation_items(
    documents: Sequence[str], *, n_items: int, context_chars: int, ending_chars: int, seed: int
) -> list[Item]:
    """Make at most n_items items, evenly spread over the documents; fewer when the text is short."""
    rng = np.random.default_rng(seed)
    starts = [_starts(text, ending_chars) for text in documents]
    places = [(d, p) for d, some in enumerate(starts) for p in some if p >= context_chars]
    items = []
    for document, place in evenly(places, n_items):
        text = documents[document]
        right = _ending(text, place, ending_chars)
        wrong = _distractors(rng, text, starts[document], place, right, context_chars, ending_chars)
        if len(wrong) < N_DISTRACTORS:
            continue  # the document has no passage to spare
        label = int(rng.integers(N_DISTRACTORS + 1))
        endings = (*wrong[:label], right, *wrong[label:])
        context = text[place - context_chars : place]
        items.append(Item(context=_from_word(context), endings=endings, label=label))
    return items


def _starts(text: str, ending_chars: int) -> list[int]:
    """Return where an ending can begin: spaces before a word, with room for one behind them."""
    return [m.start() for m in WORD_START.finditer(text) if m.end() + ending_chars < len(text)]


def _ending(text: str, place: int, ending_chars: int) -> str:
    """Return at least ending_chars characters behind the space at `place`, to the end of a word."""
    end = WHITESPACE.search(text, place + 1 + ending_chars)
    return text[place + 1 : end.start() if end else len(text)].rstrip()


def _from_word(context: str) -> str:
    """Drop a first word that may be cut."""
    space = WHITESPACE.search(context)
    return context[space.end() :] if space else context


def _distractors(
    rng: np.random.Generator,
    text: str,
    starts: Sequence[int],
    place: int,
    right: str,
    context_chars: int,
    ending_chars: int,
) -> list[str]:
    """Draw candidate places and return the endings nearest in length to the right one."""
    drawn = rng.choice(starts, size=min(N_CANDIDATES, len(starts)), replace=False).tolist()
    end = place + 1 + len(right)
    endings: list[str] = []
    for start in drawn:
        ending = _ending(text, start, ending_chars)
        is_apart = start >= end or start + 1 + len(ending) <= place - context_chars
        if is_apart and ending != right and ending not in endings:  # a refrain must not stand twice
            endings.append(ending)
    return sorted(endings, key=lambda e: abs(len(e) - len(right)))[:N_DISTRACTORS]
