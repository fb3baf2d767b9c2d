"""gpt/tokenizer/pretokenize.py: where words end, in Python's regex and in tiktoken's engine."""

import sys
import unicodedata

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.tokenizer.pretokenize import PATTERNS, pieces, split_words, splitter

ALPHABET = "aZsS'’ \n\r\t1२½.,—!é्ाकœ\u00a0\u2028\u200d\x1c\x85\u3000🙏🏽\u0301_"
TEXTS = st.one_of(st.text(ALPHABET, max_size=60), st.text(max_size=40))


def engine_words(text: str, pattern: str, words: set[str]) -> list[bytes]:
    """Split by the engine, which gives a word that is a token as one id, whatever its merges."""
    tokens = [bytes([b]) for b in range(256)]
    tokens += sorted({word.encode() for word in words} - set(tokens))
    ranks = {token: i for i, token in enumerate(tokens)}
    engine = tiktoken.Encoding(name="words", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return [tokens[i] for i in engine.encode_ordinary(text)]


def test_gpt2_pattern_by_hand() -> None:
    """Guards: a changed pattern, which changes every id. Spaces go to the word behind them."""
    words = split_words("I'll pay  ₹500 now!\n", PATTERNS["gpt2"])
    assert words == [w.encode() for w in ["I", "'ll", " pay", " ", " ₹", "500", " now", "!", "\n"]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("नमस्ते दुनिया", ["नमस्ते", " दुनिया"]),  # gpt2 cuts at the signs, which are no letters
        ("I'LL don't", ["I", "'LL", " don", "'t"]),
        ("₹1234567", ["₹", "123", "456", "7"]),
        ("end.\r\n\r\nNext", ["end", ".\r\n\r\n", "Next"]),
        ("  \n\n  x\t\ty (z)", ["  \n\n", " ", " x", "\t", "\ty", " (", "z", ")"]),
        ("kal 12:30 bje", ["kal", " ", "12", ":", "30", " bje"]),
    ],
)
def test_modern_pattern_by_hand(text: str, words: list[str]) -> None:
    """Guards: each promise of the pattern: marks, contractions, threes of digits, line breaks."""
    assert split_words(text, PATTERNS["modern"]) == [word.encode() for word in words]


def test_gpt2_cuts_devanagari_at_its_signs() -> None:
    """Guards: the reason for the pattern modern, should it ever cease to be one."""
    assert len(split_words("नमस्ते दुनिया", PATTERNS["gpt2"])) == 10


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_the_engine_splits_as_regex_does(pattern: str, text: str) -> None:
    """Guards: training on other words than those that encoding merges. Characters that Unicode 14 assigns."""
    text = "".join(char for char in text if unicodedata.category(char) not in ("Cn", "Cs"))
    words = splitter(pattern)(text)
    assert "".join(words) == text
    assert engine_words(text, pattern, set(words)) == [word.encode() for word in words]


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_the_engine_knows_each_character(pattern: str) -> None:
    """Guards: a character that is a letter to one and a symbol to the other, on any plane.

    Ideographs, syllables and private characters, alike within their blocks, by samples. What Unicode 14
    leaves unassigned differs: the two carry different versions of it.
    """
    many = {"CJK", "HANGUL", "TANGUT", "KHITAN", "NUSHU", "EGYPTIAN", "CUNEIFORM"}
    assigned = [chr(c) for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    alike = [c for c in assigned if unicodedata.name(c, "CJK").split()[0] in many]
    chars = [*sorted(set(assigned) - set(alike)), *alike[::97]]
    assert len({ord(char) >> 16 for char in chars}) == 7  # planes 0 to 3, 14 to 16
    for start in range(0, len(chars), 4096):
        text = "".join(f"a{c}a {c}1{c}{c}! {c}\n" for c in chars[start : start + 4096])
        words = splitter(pattern)(text)
        assert engine_words(text, pattern, set(words)) == [word.encode() for word in words], hex(start)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@settings(max_examples=200, deadline=None)
@given(text=TEXTS, limit=st.integers(14, 30))
def test_pieces_have_the_words_of_the_text(pattern: str, text: str, limit: int) -> None:
    """Guards: a word cut where it goes on: white space before a space, a break behind punctuation."""
    text = "a x".join(text[i : i + 9] for i in range(0, len(text), 9))  # a place to cut in every twelve
    cut = list(pieces(text, pattern, limit))
    assert "".join(cut) == text
    assert max(map(len, cut)) <= limit
    words = splitter(pattern)
    assert [word for piece in cut for word in words(piece)] == words(text)


def test_a_run_of_spaces_is_not_cut() -> None:
    """Guards: the last space before the limit, in a run: two words where the pattern has one."""
    for pattern in PATTERNS.values():
        assert list(pieces("ab cd    e", pattern, 7)) == ["ab cd", "    e"]
        assert list(pieces("ab cd\n\n  \n", pattern, 8)) == ["ab", " cd\n\n  \n"]


def test_a_word_beyond_the_limit_is_cut() -> None:
    """Guards: a piece that grows with the text. By hand: no place to cut in `limit` characters."""
    assert list(pieces("aaaaaaa bb", PATTERNS["gpt2"], 3)) == ["aaa", "aaa", "a", " bb"]
    assert list(pieces("a     b", PATTERNS["gpt2"], 3)) == ["a", "   ", "  b"]


def test_a_foreign_pattern_keeps_its_text_whole() -> None:
    """Guards: ids that are not the foreign model's own, where its words run over a space."""
    assert list(pieces("a, b, c", r"\p{L}+|\P{L}+", 3)) == ["a, b, c"]
