"""The guest's tokenizer against tiktoken's engine."""

import dataclasses
import random
import unicodedata
from pathlib import Path

import pytest

from gpt.enclave.guest.tokenizer import merge, open_tokenizer
from gpt.tokenizer.tokenizer import Tokenizer, char_tokenizer, train_tokenizer
from gpt.tokenizer.vocab_file import save_tokenizer

HAND = [
    "",
    " ",
    "\r\n",
    "a\r\n\r\n  b \t c\n",
    "   leading and trailing   ",
    "it's we'll I've they're don't 'tis ''s 's'll'x can''t",
    "नमस्ते, मेरा UPI भुगतान ₹१२३ विफल हो गया।  कृपया रिफंड!",
    "👩‍👩‍👧‍👦 🇮🇳 e\u0301 \u200b\u200d \ufeff",
    "1234 ½ ² Ⅷ ٣ x9y",
    "\u00a0\u2003\u3000x \x1c\x1d\x1e\x1f\x85\x0b\x0c y\u2028z",
    "<|endoftext|><|user|>",
    "a" * 500,
    "\x00\x01\ud7ff\ue000\U0010ffff",
]
# Characters that many split rules meet, so that a short random text holds their combinations.
ALPHABET = "aZé'stdmlverे१ \n\r\t\u00a0\u2003.,!_-²9\x1c\u0301क🙂\U00020000"


def assigned(rng: random.Random) -> str:
    """Return a random character that this Python's Unicode knows: an unknown one may split differently."""
    while True:
        char = chr(rng.randrange(0x110000))
        if unicodedata.category(char) not in ("Cn", "Cs"):
            return char


def texts() -> list[str]:
    """Hand-made texts, dense random ones, and random Unicode."""
    rng = random.Random(11)
    dense = ["".join(rng.choices(ALPHABET, k=rng.randrange(1, 30))) for _ in range(1500)]
    return HAND + dense + ["".join(assigned(rng) for _ in range(20)) for _ in range(300)]


@pytest.mark.parametrize("pattern", ["gpt2", "smollm"])
@pytest.mark.parametrize("special_first", [False, True])
def test_ids_equal_tiktoken(tmp_path: Path, pattern: str, special_first: bool) -> None:
    """Guards the hand-written splits, the heap of merges, and special tokens in front, as SmolLM2 has them:
    an enclave that reads other tokens."""
    tokenizer = train_tokenizer([" ".join(HAND) * 3, "The cat's hat 1999 " * 9], 420, pattern)
    if special_first:
        names = {name: i for i, name in enumerate(tokenizer.special_tokens)}
        tokenizer = dataclasses.replace(tokenizer, special_tokens=names)
    save_tokenizer(tmp_path, tokenizer)
    guest = open_tokenizer(tmp_path)
    for text in texts():
        ids = guest.encode(text)
        assert ids == tokenizer.encode(text), repr(text)
        assert guest.decode(ids) == text
    assert guest.n_vocab == tokenizer.n_vocab
    every_id = list(range(tokenizer.n_vocab))
    assert guest.decode(every_id) == tokenizer.decode(every_id)


def test_merges_by_hand() -> None:
    """Guards the order: lowest rank first, the leftmost of equals; aaa -> (aa)a, abc by rank of bc."""
    ranks = {bytes([b]): b for b in range(256)} | {b"aa": 256, b"bc": 257, b"ab": 258, b"aaaa": 259}
    assert merge(b"aaaaa", ranks) == [259, 97]
    assert merge(b"aaa", ranks) == [256, 97]
    assert merge(b"abcab", ranks) == [97, 257, 258]


def test_a_long_word_is_merged_in_time() -> None:
    """Guards the quadratic merge, with which one request of one word stops the server (minutes here)."""
    ranks = {bytes([b]): b for b in range(256)} | {b"ab": 256, b"abab": 257}
    assert merge(b"ab" * 30_000, ranks) == [257] * 15_000


def test_characters(tmp_path: Path) -> None:
    """Guards the char kind: same ids, and an unknown symbol is refused by name."""
    tokenizer = char_tokenizer(["hello नमस्ते\n"])
    save_tokenizer(tmp_path, tokenizer)
    guest = open_tokenizer(tmp_path)
    assert guest.encode("hole न\n") == tokenizer.encode("hole न\n")
    assert guest.decode(guest.encode("hole न\n")) == "hole न\n"
    with pytest.raises(ValueError, match="does not know 'x'"):
        guest.encode("x")


def test_another_pattern_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Guards a tokenizer of another split that would be read as GPT-2's."""
    save_tokenizer(tmp_path, tokenizer)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace("'(?:[sdmt]", "'(?i:[sdmt]"))
    with pytest.raises(ValueError, match="the guest splits as GPT-2"):
        open_tokenizer(tmp_path)


def test_a_byte_without_a_token_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Guards: a prompt that ends the server's worker, with a vocabulary that lacks rare bytes."""
    save_tokenizer(tmp_path, tokenizer)
    guest = open_tokenizer(tmp_path)
    del guest.ranks[b"\x00"]
    with pytest.raises(ValueError, match=r"no token for b'.x00'"):
        guest.encode("a\x00")
