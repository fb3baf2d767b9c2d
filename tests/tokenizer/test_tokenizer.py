"""gpt/tokenizer: trained here, run by tiktoken's engine, saved and read back."""

import itertools
import random
from collections import Counter
from pathlib import Path

import pytest

from gpt.tokenizer.chat_template import encode_chat, encode_prompt
from gpt.tokenizer.pretokenize import PATTERNS, split_words
from gpt.tokenizer.tokenizer import Tokenizer, char_tokenizer, train_tokenizer
from gpt.tokenizer.train_bpe import merge_pair, train_bpe, train_naive
from gpt.tokenizer.vocab_file import load_tokenizer, save_tokenizer

HARD = [
    "",
    " ",
    "\r\n\r\n",
    "नमस्ते दुनिया",
    "kal UPI se ₹500 bheja 🙏🏽",
    "a" * 5000,
    "\x00\ufeff",
    "<|endoftext|>",
]


def encode_by_hand(tokenizer: Tokenizer, text: str) -> list[int]:
    """Apply merges in rank order, word by word: what the engine must do, only slower."""
    ranks = {token: i for i, token in enumerate(tokenizer.tokens)}
    out = []
    for word in split_words(text, tokenizer.pattern):
        parts = [bytes([b]) for b in word]
        while len(parts) > 1:
            joined = [ranks.get(a + b, 10**9) for a, b in itertools.pairwise(parts)]
            best = min(joined)
            if best == 10**9:
                break
            i = joined.index(best)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        out += [ranks[p] for p in parts]
    return out


def test_first_merges_by_hand() -> None:
    """Guards: counting overlaps twice, or ties broken by chance.

    aab x2, ab x1: pairs aa 2, ab 3 -> merge ab (256); then a+ab 2 -> merge aab (257).
    """
    ranks = train_bpe(Counter({b"aab": 2, b"ab": 1}), 2)
    assert ranks[b"ab"] == 256
    assert ranks[b"aab"] == 257
    assert merge_pair([1, 1, 1, 2], (1, 1), 9) == [9, 1, 2]


def test_fast_trainer_equals_naive() -> None:
    """Guards: stale counts in the heap, words that hold a pair twice, runs of one letter."""
    rng = random.Random(0)
    for _ in range(30):
        alphabet = bytes(rng.sample(range(256), rng.randint(1, 4)))
        words = Counter(bytes(rng.choices(alphabet, k=rng.randint(1, 12))) for _ in range(40))
        assert train_bpe(words, 25) == train_naive(words, 25)


def test_engine_equals_merging_by_hand(tokenizer: Tokenizer) -> None:
    """Guards: ranks that tiktoken reads in another order than we trained them in."""
    rng = random.Random(1)
    texts = [
        *HARD,
        "".join(chr(rng.choice([*range(32, 127), *range(2304, 2416), 128512])) for _ in range(60)),
    ]
    for text in texts:
        assert tokenizer.encode(text) == encode_by_hand(tokenizer, text), text[:20]
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_ordinary_text_cannot_make_special_tokens(tokenizer: Tokenizer) -> None:
    """Guards: a user's message that forges a turn."""
    special = set(tokenizer.special_tokens.values())
    assert not special & set(tokenizer.encode("<|endoftext|><|assistant|><|end|>"))
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


def test_bad_files_are_refused_by_name(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Guards: a traceback, or a tokenizer with a token missing."""
    with pytest.raises(ValueError, match=r"tokenizer\.json: no such tokenizer"):
        load_tokenizer(tmp_path)
    save_tokenizer(tmp_path, tokenizer)
    path = tmp_path / "tokenizer.json"
    for damage, message in (
        (lambda t: t[:100], "damaged"),
        (lambda t: t.replace("rawgpt-tokenizer-1", "other"), "is expected"),
        (lambda t: t.replace('"n_vocab": 320', '"n_vocab": 321'), "token count"),
        (lambda t: "[1]", "damaged"),
    ):
        save_tokenizer(tmp_path, tokenizer)
        path.write_text(damage(path.read_text()))
        with pytest.raises(ValueError, match=message):
            load_tokenizer(tmp_path)


def test_char_tokenizer_refuses_the_unknown() -> None:
    """Guards: an unknown character dropped without a word."""
    assert char_tokenizer(["ba"]).encode("ab") == [0, 1]
    with pytest.raises(ValueError, match="does not know 'c'"):
        char_tokenizer(["ab"]).encode("abc")


def test_too_small_a_corpus_names_the_dial() -> None:
    """Guards: a vocabulary silently smaller than the model's embedding."""
    with pytest.raises(ValueError, match=r"lower tokenize\.vocab_size"):
        train_tokenizer(["abc"], 1000, "gpt2")


def test_gpt2_pattern_by_hand() -> None:
    """Guards: a changed pattern, which changes every id. Spaces go to the word behind them."""
    words = split_words("I'll pay  ₹500 now!\n", PATTERNS["gpt2"])
    assert words == [w.encode() for w in ["I", "'ll", " pay", " ", " ₹", "500", " now", "!", "\n"]]


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
