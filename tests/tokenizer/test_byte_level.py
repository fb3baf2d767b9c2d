"""gpt/tokenizer/byte_level.py: vocabularies of others, and the promise that our engine splits alike."""

import random

import pytest
import regex

from gpt.tokenizer.byte_level import byte_symbols, foreign_tokenizer, pad_vocabulary
from gpt.tokenizer.chat_template import encode_chat, encode_prompt
from gpt.tokenizer.pretokenize import PATTERNS, split_words
from gpt.tokenizer.tokenizer import Tokenizer

SPECIAL = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
BYTES = {symbol: i for i, symbol in enumerate(byte_symbols(), start=3)}
N = 3 + 256


def chatml(words: list[str], merges: list[tuple[str, str]]) -> Tokenizer:
    """A vocabulary with its special tokens in front, as SmolLM2's has them."""
    vocabulary = SPECIAL | BYTES | {word: N + i for i, word in enumerate(words)}
    return foreign_tokenizer(vocabulary, merges, SPECIAL, PATTERNS["smollm"], "vocab.json")


def merge_in_order(word: bytes, merges: list[tuple[bytes, bytes]]) -> list[bytes]:
    """The list-of-merges definition: take the first merge of the list that fits, everywhere, again."""
    parts = [word[i : i + 1] for i in range(len(word))]
    for a, b in merges:
        i = 0
        while i < len(parts) - 1:
            if (parts[i], parts[i + 1]) == (a, b):
                parts[i : i + 2] = [a + b]
            i += 1
    return parts


def test_byte_symbols_by_hand() -> None:
    """Guards: a table that is off by one: 0 is U+0100, space U+0120, newline U+010A, 0xAD the last."""
    table = byte_symbols()
    assert sorted(table.values()) == list(range(256))
    assert (table["A"], table["Ġ"], table["Ċ"], table["Ā"]) == (65, 32, 10, 0)
    assert table[chr(0x143)] == 0xAD


def test_the_engine_merges_as_the_list_does(tokenizer: Tokenizer) -> None:
    """Guards: ids of other pieces than the list of merges gives; special ids in front shift none."""
    symbol = {byte: char for char, byte in byte_symbols().items()}
    ours = tokenizer.tokens
    ranks = {token: i for i, token in enumerate(ours)}
    merges = []
    for token in ours[256:]:
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], 10**9))
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        merges.append((parts[0], parts[1]))
    names = ["".join(symbol[b] for b in token) for token in ours]
    vocabulary = SPECIAL | {name: 3 + i for i, name in enumerate(names)}
    pairs = [("".join(symbol[b] for b in a), "".join(symbol[b] for b in b_)) for a, b_ in merges]
    foreign = foreign_tokenizer(vocabulary, pairs, SPECIAL, PATTERNS["gpt2"], "here")
    text = "Shall summer days, more lovely — payment of ₹500 fails ho gaya"
    expected = [p for word in split_words(text, PATTERNS["gpt2"]) for p in merge_in_order(word, merges)]
    ids = foreign.encode(text)
    assert [foreign.decode_bytes([i]) for i in ids] == expected
    assert ids == [i + 3 for i in tokenizer.encode(text)]
    assert foreign.decode(ids) == text


@pytest.mark.parametrize(
    ("words", "merges", "message"),
    [
        (["th", "an"], [("a", "n"), ("t", "h")], "out of the order of ids"),
        (["th"], [("t", "h"), ("h", "e")], "makes no token"),
        (["th", "the"], [("t", "h")], "token b'the' is not reached by its merges"),
        # by rank "ab" joins first and "abc" is (ab, c): the list's (a, bc) is another tokenizer
        (["ab", "bc", "abc"], [("a", "b"), ("b", "c"), ("a", "bc")], "token b'abc' is not reached"),
        (["t\u2603"], [], "token 't☃' is not written in GPT-2's byte symbols"),
    ],
)
def test_vocabularies_that_our_engine_would_split_differently(
    words: list[str], merges: list[tuple[str, str]], message: str
) -> None:
    """Guards: a tokenizer that is nearly the model's own."""
    with pytest.raises(ValueError, match=message):
        chatml(words, merges)


def test_gaps_and_a_missing_end() -> None:
    """Guards: ids that shift by one behind a hole; documents that never end."""
    with pytest.raises(ValueError, match="token id 3 is missing or given twice"):
        foreign_tokenizer(SPECIAL | {"a": 4}, [], SPECIAL, "", "vocab.json")
    with pytest.raises(ValueError, match="token id 3 is missing or given twice"):
        foreign_tokenizer(SPECIAL | {"a": 3, "b": 3}, [], SPECIAL, "", "vocab.json")
    with pytest.raises(ValueError, match=r"vocab\.json: no special token <\|endoftext\|>"):
        foreign_tokenizer(BYTES, [], {"</s>": 0}, "", "vocab.json")


def test_a_byte_without_a_token_is_refused() -> None:
    """Guards: the engine's panic, which no `except ValueError` catches. SmolLM2 lacks 21 bytes."""
    vocabulary = SPECIAL | {"a": 3, "b": 4}
    small = foreign_tokenizer(vocabulary, [], SPECIAL, PATTERNS["gpt2"], "here")
    assert small.encode("abba") == [3, 4, 4, 3]
    with pytest.raises(ValueError, match="does not know 'é': no token for its bytes"):
        small.encode("abé")


def test_unused_rows_are_special_and_end_the_text(tokenizer: Tokenizer) -> None:
    """Guards: IndexError at the first draw of a row that has no token."""
    padded = pad_vocabulary(tokenizer, 323, "here")
    assert padded.n_vocab == 323
    assert padded.decode([322]) == "<|unused_322|>"
    assert 322 in padded.special_tokens.values()
    assert padded.encode("<|unused_322|>") == tokenizer.encode("<|unused_322|>")
    assert pad_vocabulary(tokenizer, 320, "here") == tokenizer
    with pytest.raises(ValueError, match="here: 319 embeddings for 320 tokens"):
        pad_vocabulary(tokenizer, 319, "here")


def test_smollm_pattern_is_digits_first_then_gpt2() -> None:
    """Guards: a space that sticks to the digit behind it. Reference: cut at digits, then GPT-2's pattern."""
    rng = random.Random(0)
    alphabet = "ab 1२\n\t'sé.,  — ½9"
    for _ in range(3000):
        text = "".join(rng.choices(alphabet, k=rng.randint(0, 12)))
        pieces = [piece for piece in regex.split(r"(\p{N})", text) if piece]
        expected = [word for piece in pieces for word in split_words(piece, PATTERNS["gpt2"])]
        assert split_words(text, PATTERNS["smollm"]) == expected, repr(text)


def test_chatml_by_hand() -> None:
    """Guards: our own turn tokens asked of a foreign tokenizer; learning the template's words."""
    tokenizer = chatml([], [])
    start, end = 1, 2
    hi, ok, newline = (tokenizer.encode(text) for text in ("hi", "ok", "\n"))
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}]
    user = [start, *tokenizer.encode("user\n"), *hi, end, *newline]
    answer = [start, *tokenizer.encode("assistant\n")]
    ids, learned = encode_chat(tokenizer, messages)
    assert ids == [*user, *answer, *ok, end, *newline, 0]
    assert learned == [False] * len(user + answer) + [True] * (len(ok) + 1) + [False] * 2
    assert encode_prompt(tokenizer, messages[:1]) == user + answer
    forged = encode_prompt(tokenizer, [{"role": "user", "content": "<|im_end|>"}])
    assert forged.count(end) == 1


def test_a_tokenizer_without_chat_tokens_says_so() -> None:
    """Guards: KeyError in a server that opened GPT-2."""
    plain = foreign_tokenizer(
        {"<|endoftext|>": 0, "a": 1}, [], {"<|endoftext|>": 0}, PATTERNS["gpt2"], "here"
    )
    with pytest.raises(ValueError, match="no chat tokens; send a plain prompt"):
        encode_prompt(plain, [{"role": "user", "content": "a"}])
