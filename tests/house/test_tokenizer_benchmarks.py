"""The arithmetic behind the comparison of tokenizers, by hand and against other ways to the same."""

import math
import os

import numpy as np
import pytest

from benchmarks import token_counts, tokenizer_set, tokenizer_texts
from benchmarks import tokenizer_bits_per_byte as quality
from benchmarks.tokenizer_texts import HeldOut
from gpt.model.flops import training_flops_per_token
from gpt.tokenizer.tokenizer import char_tokenizer, train_tokenizer

TEXT = (
    "the cat sat on the mat, the other cat ate that hat. " * 3 + "मेरा खाता खाली है। Rs.500 bheja the hatter "
)


def test_a_cut_vocabulary_is_a_shorter_training() -> None:
    """Guards: sizes out of one training that are no trainings of their own."""
    largest = train_tokenizer([TEXT], 300, "gpt2")
    for size in (261, 280, 300):
        assert tokenizer_set.cut_vocabulary(largest, size) == train_tokenizer([TEXT], size, "gpt2")
    assert tokenizer_set.byte_tokenizer("gpt2") == train_tokenizer([TEXT], 261, "gpt2")


@pytest.mark.skipif(not os.environ.get("RAWGPT_DATA_MIRROR"), reason="RAWGPT_DATA_MIRROR is not set")
def test_gpt2_says_hello_world() -> None:
    """The ids that everybody knows. Guards: merges out of order, a special token counted as text."""
    tokenizer = tokenizer_set.gpt2_tokenizer()
    assert (tokenizer.encode("Hello world"), tokenizer.n_vocab) == ([15496, 995], 50257)


def test_figures_by_hand() -> None:
    """By hand: "ab cd" and "é": 7 bytes, 3 words; of 2 and 1 tokens: 7/3 bytes a token, 1 token a word. Their
    residuals from 7/3 are 1/3 and -1/3, so its error is sqrt(2 x 2/9) / 3 = 0.2222."""
    found = token_counts.figures(["ab cd", "é"], [2, 1])
    assert found["tokens"] == 3
    assert (found["bytes_per_token"], found["bytes_per_token_se"]) == (2.3333, 0.2222)
    assert (found["tokens_per_word"], found["tokens_per_word_se"]) == (1.0, 0.0)


def test_unknown_characters_are_counted_and_nothing_else() -> None:
    """Guards: a character tokenizer that looks good where it cannot write the text at all."""
    held_out = {
        "a": HeldOut(texts=["abba", "cab₹c"], description=""),
        "b": HeldOut(texts=["ab", "b"], description=""),
    }
    rows = [*token_counts.measure("char", char_tokenizer(["abc"]), {**held_out})]
    assert rows[0] == {"tokenizer": "char", "set": "a", "unknown_characters": 1}
    assert (rows[1]["unknown_characters"], rows[1]["bytes_per_token"]) == (0, 1.0)
    (row, _) = token_counts.measure("byte", tokenizer_set.byte_tokenizer("gpt2"), held_out)
    assert row["tokens"] == 4 + len("cab₹c".encode())


def test_a_pattern_limits_its_vocabularies() -> None:
    """By hand: ` खाता` is cut at each vowel sign: ␣ख, ा, त, ा. A training that ran out of pairs (308 ids on
    TEXT) knows every piece of its text, one with fewer ids does not. Guards: a limit over other pieces."""
    (word,) = token_counts.limit("limit", "gpt2", {"a": HeldOut(texts=[" खाता"] * 2, description="")})
    assert word["tokens"] == 8
    held_out = {"a": HeldOut(texts=[TEXT, TEXT], description="")}
    (limit,) = token_counts.limit("limit", "gpt2", held_out)
    (all_merged,) = token_counts.measure("308", train_tokenizer([TEXT], 308, "gpt2"), held_out)
    (fewer,) = token_counts.measure("300", train_tokenizer([TEXT], 300, "gpt2"), held_out)
    assert limit["tokens"] == all_merged["tokens"] < fewer["tokens"]


def test_pieces_show_what_is_no_character() -> None:
    """A worked example: a letter of two bytes in a tokenizer of bytes."""
    assert token_counts.pieces(tokenizer_set.byte_tokenizer("gpt2"), "aé") == ["␣", "a", "<c3>", "<a9>"]


def test_a_shared_passage_is_found_across_editions() -> None:
    """Guards: a held-out novel that stands in the training text in another typesetting."""
    words = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(600)]
    book, other = " ".join(words), " ".join(reversed(words))
    typeset = ",\n".join(word.upper() for word in words[250:350])
    assert tokenizer_texts.shares_passage(book, tokenizer_texts._letters(f"A preface. {typeset}"))
    assert not tokenizer_texts.shares_passage(other, tokenizer_texts._letters(book))


def test_held_out_lines_are_new_and_single() -> None:
    """Guards: a line that training holds, or a frequent one that counts a hundred times."""
    assert tokenizer_texts._fresh(["a", "b", "", "a", "c"], {"b"}) == ["a", "c"]


def test_steps_fit_the_budget() -> None:
    """By hand: V 4,096: 6 N with the projection, attention 12 L C T, and 2,048 tokens a step. Guards: an
    overdrawn budget."""
    config = quality.body(4096)
    a_step = training_flops_per_token(config, quality.SEQ_LEN) * quality.SEQ_LEN * quality.MICRO_BATCH_SIZE
    assert a_step == (6 * (804_480 + 4096 * 128) + 12 * 4 * 128 * 256) * 2048
    assert quality.steps_for(10.5 * a_step / 1e12, config) == 10
    with pytest.raises(ValueError, match=r"--tflop: 0\.01 is less than one step at V = 4096"):
        quality.steps_for(0.01, config)


def test_a_run_counts_every_held_out_byte() -> None:
    """One step of a byte tokenizer: a token a byte, so bits per byte are nats / ln 2 corrected for the
    end-of-text that is predicted and is no byte. Guards: another text's bytes in the denominator."""
    held_out = ["to be or not to be " * 30, "that is the question " * 20]
    encoded = quality.encode(
        tokenizer_set.byte_tokenizer("gpt2"), ["it was the best of times " * 40] * 2, held_out
    )
    n_bytes = sum(len(text) for text in held_out)
    n_predicted = sum(len(window) - 1 for window in encoded.windows)
    assert n_predicted == n_bytes + 2 - 1  # two ends, and the first byte has nothing before it
    run = quality.measure(encoded, seed=1, tflop=0.014)
    assert (run["steps"], run["tokens"], run["bytes"]) == (1, 2048, round(2048 * 2000 / 2002))
    expected = run["loss"] / math.log(2) * n_predicted / (n_bytes - 1)
    assert run["bits_per_byte"] == pytest.approx(expected, abs=2e-4)  # both are rounded to 4 digits
    assert run["loss"] < math.log(261)


def test_rows_are_means_over_seeds() -> None:
    """By hand: 2.0 and 2.2: mean 2.1, error 0.1; the budgets stay apart."""
    same = {"n_vocab": 4096, "loss": 1.0, "cpu_s": 3.0}
    runs = [
        {"tokenizer": "4K", "budget_tflop": budget, "seed": seed, "bits_per_byte": bits, **same}
        for budget, seed, bits in ((6.0, 1, 2.0), (6.0, 2, 2.2), (1.5, 1, 2.5))
    ]
    small, large = quality.summarize(runs)
    assert (small["budget_tflop"], small["n"], small["standard_error"]) == (1.5, 1, None)
    assert (large["bits_per_byte"], large["n"], large["standard_error"]) == (2.1, 2, 0.1)
    assert "seed" not in large
    assert large["n_vocab"] == 4096


def test_the_stream_of_tokens_ends_each_text() -> None:
    """By hand: characters a=0, b=1, end-of-text 2. Guards: texts that run into one another."""
    encoded = quality.encode(char_tokenizer(["ab"]), ["ab", "b"], ["a"])
    assert np.array_equal(encoded.tokens, [0, 1, 2, 1, 2])
    assert encoded.bytes_per_token == 3 / 5
