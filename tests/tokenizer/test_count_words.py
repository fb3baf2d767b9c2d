"""gpt/tokenizer/count_words.py and count_parts.py: the fast counts are the plain ones."""

from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt.tokenizer.count_parts import count_parts
from gpt.tokenizer.count_words import count_words
from gpt.tokenizer.pretokenize import MAX_PIECE, PATTERNS, split_words, splitter
from gpt.workers.config import WorkersConfig

ALPHABET = "aZsS'’ \n\r\t1२½.,—!é्ाकœ\u00a0\u2028\u200d\x1c\x85\u3000🙏🏽\u0301_"
TEXTS = st.lists(st.one_of(st.text(ALPHABET, max_size=80), st.text(max_size=40)), max_size=3)


def plain(texts: list[str], pattern: str) -> Counter[bytes]:
    """Split every text whole and count."""
    split = splitter(pattern)
    return Counter(word.encode() for text in texts for word in split(text))


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@settings(max_examples=400, deadline=None)
@given(texts=TEXTS)
@example(texts=["a.\n\n  b\t \r\n c\x1c d\x1c\x1ce \u00a0f", "don't  ", " 's", "\n", "  12  34"])
def test_counts_equal_the_regex(pattern: str, texts: list[str]) -> None:
    """Guards: chunks cut inside a word: at U+001C, which is white space to Python and none to the patterns;
    before a line break that modern joins to punctuation; two spaces, marks, contractions."""
    assert count_words(texts, pattern) == plain(texts, pattern)


def test_counts_of_a_long_text() -> None:
    """Guards: words lost or joined where a text longer than a piece is cut."""
    text = ("The  lazy dog's\n\n\t12 tails.\r\n" * (MAX_PIECE // 10)) + " " * 70000 + "end"
    pattern = PATTERNS["gpt2"]
    counted = count_words([text], pattern)
    assert counted[b" lazy"] == counted[b"'s"] == MAX_PIECE // 10
    assert counted == Counter(split_words(text, pattern))


def texts_of(all_texts: list[str], part: range) -> Iterator[str]:
    return iter([all_texts[i] for i in part])


def test_parts_and_processes_change_nothing() -> None:
    """Guards: counts that hang on the number of cores or on where the corpus was cut."""
    texts = [f"the cat {i % 3} sat\n on the {i}th mat" for i in range(40)]
    pattern = PATTERNS["modern"]
    expected = plain(texts, pattern)
    cuts = [[range(40)], [range(5), range(5, 5), range(5, 40)]]
    for processes, parts in ((1, cuts[0]), (1, cuts[1]), (2, cuts[1])):
        workers = WorkersConfig(processes=processes)
        assert count_parts(parts, partial(texts_of, texts), pattern, workers) == expected
