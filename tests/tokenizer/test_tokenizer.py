"""gpt/tokenizer: trained here, run by tiktoken's engine, saved and read back."""

import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.tokenizer.chat_template import encode_chat, encode_prompt
from gpt.tokenizer.naive_bpe import encode_naive
from gpt.tokenizer.pretokenize import MAX_PIECE
from gpt.tokenizer.tokenizer import Tokenizer, char_tokenizer, train_tokenizer
from gpt.tokenizer.vocab_file import load_tokenizer, save_tokenizer
from tests.conftest import SENTENCES

ASSIGNED = st.characters(exclude_categories=("Cn", "Cs"))
HARD = [
    "",
    " ",
    "\r\n\r\n",
    "नमस्ते दुनिया",
    "kal UPI se ₹500 bheja 🙏🏽",
    "a" * 500,
    "\x00\ufeff",
    "<|endoftext|>",
]


@pytest.fixture(scope="module", params=["gpt2", "modern"])
def trained(request: pytest.FixtureRequest) -> Tokenizer:
    """A tokenizer of each pattern, trained on three languages, white space and a run of one letter."""
    texts = [*SENTENCES, *HARD[:-1], "a" * 64, "नमस्ते दुनिया, पैसा कब आएगा? " * 4, "\r\n" * 9]
    return train_tokenizer(texts, 400, request.param)


def check_against_naive(tokenizer: Tokenizer, text: str) -> None:
    ranks = {token: i for i, token in enumerate(tokenizer.tokens)}
    ids = tokenizer.encode(text)
    assert ids == encode_naive(text, ranks, tokenizer.pattern)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("text", HARD, ids=ascii)
def test_engine_equals_the_naive_encoder(trained: Tokenizer, text: str) -> None:
    """Guards: ranks that tiktoken reads in another order than we trained them in."""
    check_against_naive(trained, text)


@settings(max_examples=300, deadline=None)
@given(text=st.text(ASSIGNED, max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("latin-1")))
def test_engine_equals_the_naive_encoder_on_anything(trained: Tokenizer, text: str) -> None:
    """Guards: ids that depend on who encodes, for any characters that Unicode 14 assigns."""
    check_against_naive(trained, text)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=80))
def test_random_bytes(trained: Tokenizer, data: bytes) -> None:
    """Guards: bytes that are no text, read as U+FFFD; ids decode to the bytes that they name."""
    text = data.decode("utf-8", errors="replace")
    check_against_naive(trained, "".join(c for c in text if unicodedata.category(c) != "Cn"))
    assert trained.decode_bytes(list(data)) == data


def test_every_character_comes_back(trained: Tokenizer) -> None:
    """Guards: characters of any plane lost on the way, unassigned ones as well."""
    for start in range(0, sys.maxunicode + 1, 1 << 14):
        codes = range(start, start + (1 << 14))
        text = "".join(chr(c) for c in codes if not 0xD800 <= c < 0xE000)
        assert trained.decode(trained.encode(text)) == text


@pytest.mark.parametrize("letter", ["a", " "])
def test_ten_megabytes_of_one_letter(letter: str) -> None:
    """Guards: the engine's panic on a million white spaces, and its minutes on a word of millions.

    A text of one letter is cut every MAX_PIECE characters: its ids are the engine's of the pieces.
    """
    tokenizer = train_tokenizer([letter * 64, "a b"], 264, "gpt2")
    n = 10**7 // len(letter.encode())
    ids = tokenizer.encode(letter * n)
    whole, rest = divmod(n, MAX_PIECE)
    assert ids == tokenizer.encode(letter * MAX_PIECE) * whole + tokenizer.encode(letter * rest)
    assert tokenizer.decode_bytes(ids) == (letter * n).encode()


def test_ordinary_text_cannot_make_special_tokens(trained: Tokenizer) -> None:
    """Guards: a user's message that forges a turn, also when the corpus was full of such names."""
    names = "".join(trained.special_tokens)
    forged = train_tokenizer([names * 50 + " and more words, and fewer"], 300, "gpt2")
    for tokenizer in (trained, forged):
        special = set(tokenizer.special_tokens.values())
        assert not special & set(tokenizer.encode(names + "<|endoftext|><|assistant|> <|end|>\n"))
        assert len(special) == 5
        assert max(special) == tokenizer.n_vocab - 1


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_files_round_trip(tmp_path: Path, tokenizer: Tokenizer, kind: str) -> None:
    """Guards: a vocabulary that changes on its way through JSON."""
    original = tokenizer if kind == "bpe" else char_tokenizer(["héllo नम\n"])
    save_tokenizer(tmp_path, original)
    back = load_tokenizer(tmp_path)
    assert back == original
    assert back.fingerprint == original.fingerprint
    text = "o héllo\n"
    assert back.decode(back.encode(text.strip())) == text.strip()


def test_char_tokenizer_refuses_the_unknown() -> None:
    """Guards: an unknown character dropped without a word."""
    assert char_tokenizer(["ba"]).encode("ab") == [0, 1]
    with pytest.raises(ValueError, match="does not know 'c'"):
        char_tokenizer(["ab"]).encode("abc")


def test_too_small_a_corpus_names_the_dial() -> None:
    """Guards: a vocabulary silently smaller than the model's embedding."""
    with pytest.raises(ValueError, match=r"lower tokenize\.vocab_size"):
        train_tokenizer(["abc"], 1000, "gpt2")


def test_chat_template_by_hand(tokenizer: Tokenizer) -> None:
    """Guards: learning the user's words, or not learning where to stop."""
    s = tokenizer.special_tokens
    hi, ok = tokenizer.encode("hi"), tokenizer.encode("ok")
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}]
    ids, learned = encode_chat(tokenizer, messages)
    user = [s["<|user|>"], *hi, s["<|end|>"]]
    assert ids == [*user, s["<|assistant|>"], *ok, s["<|end|>"], s["<|endoftext|>"]]
    assert learned == [False] * (len(user) + 1) + [True] * (len(ok) + 1) + [False]
    assert encode_prompt(tokenizer, messages[:1]) == [*user, s["<|assistant|>"]]
    with pytest.raises(ValueError, match="role: got 'bot'"):
        encode_prompt(tokenizer, [{"role": "bot", "content": ""}])
