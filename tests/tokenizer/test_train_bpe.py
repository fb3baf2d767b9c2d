"""gpt/tokenizer/train_bpe.py against the naive trainer, and the naive trainer against a hand."""

import hashlib
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.tokenizer.naive_bpe import encode_naive, merge_pair, train_naive
from gpt.tokenizer.pretokenize import PATTERNS
from gpt.tokenizer.train_bpe import train_bpe

TRAINERS = pytest.mark.parametrize("train", [train_naive, train_bpe])
SCRIPT = """
import hashlib
from collections import Counter
from gpt.tokenizer.train_bpe import train_bpe
text = b"she sells sea shells by the sea shore the shells she sells are sea shells for sure"
words = Counter(b" " + word for word in text.split())
print(hashlib.sha256(b"|".join(train_bpe(words, 40))).hexdigest())
"""


@TRAINERS
def test_first_merges_by_hand(train) -> None:  # type: ignore[no-untyped-def]
    """Guards: counting overlaps twice, or ties broken by chance.

    aab x2, ab x1: pairs aa 2, ab 3 -> merge ab (256); then a+ab 2 -> merge aab (257).
    """
    tokens = train(Counter({b"aab": 2, b"ab": 1}), 2)
    assert tokens[:256] == [bytes([b]) for b in range(256)]
    assert tokens[256:] == [b"ab", b"aab"]
    assert merge_pair([1, 1, 1, 2], (1, 1), 9) == [9, 1, 2]


@TRAINERS
def test_ties_by_hand(train) -> None:  # type: ignore[no-untyped-def]
    """Guards: the order of a dictionary as the tie-break.

    zy and ab once each: ab has the smaller ids, whichever word came first. Then zy. cd x2 comes first of all.
    (b, a) against (a, z): the first id decides, then the second: ac before az before ba.
    """
    assert train(Counter([b"zy", b"ab", b"cd", b"cd"]), 3)[256:] == [b"cd", b"ab", b"zy"]
    assert train(Counter([b"ba", b"az", b"ac"]), 3)[256:] == [b"ac", b"az", b"ba"]


@TRAINERS
def test_runs_of_one_letter_by_hand(train) -> None:  # type: ignore[no-untyped-def]
    """Guards: overlapping pairs in a run.

    aaaaa: aa (4, overlapping) -> XXa; XX 1 and Xa 1: Xa has the smaller ids -> X(Xa); then it, the last.
    """
    assert train(Counter([b"aaaaa"]), 9)[256:] == [b"aa", b"aaa", b"aaaaa"]


@settings(max_examples=300, deadline=None)
@given(
    words=st.lists(st.binary(max_size=14) | st.text("ab", max_size=14).map(str.encode), max_size=30),
    n_merges=st.integers(0, 40),
)
def test_fast_trainer_equals_naive(words: list[bytes], n_merges: int) -> None:
    """Guards: stale counts on the heap, words that hold a pair twice, runs of one letter, no pair left."""
    counted = Counter(words)
    assert train_bpe(counted, n_merges) == train_naive(counted, n_merges)


def test_fast_trainer_equals_naive_on_many_merges() -> None:
    """Guards: counts that go wrong only once tokens of tokens merge; ids above a byte."""
    rng = random.Random(0)
    stems = ["".join(rng.choices("etaoinsh", k=rng.randint(1, 5))) for _ in range(60)]
    words = Counter("".join(rng.choices(stems, k=rng.randint(1, 4))).encode() for _ in range(600))
    tokens = train_bpe(words, 400)
    assert len(set(tokens)) == 656  # no token arises twice
    assert tokens == train_naive(words, 400)


def test_ids_in_the_surrogate_range() -> None:
    """Guards: a token whose character is half of a UTF-16 pair: ids 55,296 to 57,343.

    By hand: words of two bytes in falling counts; each is one merge, in that order.
    """
    words: Counter[bytes] = Counter()
    for n in range(58000):
        words[bytes([n >> 8, n & 255])] = 60000 - n
    assert train_bpe(words, 58000)[256:] == [bytes([n >> 8, n & 255]) for n in range(58000)]


def test_the_same_in_every_process() -> None:
    """Guards: sets and hashes of strings that decide a tie."""
    digests = set()
    for seed in ("0", "1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        )
        digests.add(done.stdout)
    assert len(digests) == 1
    assert len(digests.pop().strip()) == len(hashlib.sha256().hexdigest())


def test_naive_encoding_by_hand() -> None:
    """Guards: merging what is frequent instead of what came first. ab is 256, bc 257, abc none: abc is ab c;
    `a bc` keeps its space with the word, so bc is joined there."""
    ranks = {bytes([b]): b for b in range(256)} | {b"ab": 256, b"bc": 257}
    assert encode_naive("abc bc", ranks, PATTERNS["gpt2"]) == [256, 99, 32, 257]
