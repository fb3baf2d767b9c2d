"""Exact match and F1 of a short answer, by the definition of SQuAD (Rajpurkar et al. 2016, section 6.1).

Both texts are lower-cased, lose punctuation and the articles a, an, the, and are split at white space. Exact
match is equality then; F1 is of the two bags of words. Several right answers: the best counts.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> list[str]:
    """Return the words that count."""
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def exact_match(answer: str, right: Sequence[str]) -> float:
    """Return 1 when the answer is one of the right ones, else 0."""
    return float(any(normalized(answer) == normalized(one) for one in right))


def f1(answer: str, right: Sequence[str]) -> float:
    """Return the best F1 over the right answers, 0..1; of two empty texts it is 1."""
    return max(_f1(normalized(answer), normalized(one)) for one in right)


def _f1(answer: list[str], right: list[str]) -> float:
    if not answer or not right:
        return float(answer == right)
    common = sum((Counter(answer) & Counter(right)).values())
    return 2 * common / (len(answer) + len(right))
