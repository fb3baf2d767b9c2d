"""The measures of benchmarks/generator_diversity.py, by hand."""

import math

from benchmarks.generator_diversity import ByteModel, cut, measure


def test_the_byte_model_is_a_distribution() -> None:
    """Guards: perplexities that compare nothing because the chances do not sum to one. Of the text "a"
    and its end, order 1: two kinds were seen once each, the other 254 share what Witten-Bell leaves."""
    model = ByteModel(["abab"], 3)
    costs = {text: model.bits(text) for text in ("abab", "abba", "xyz")}
    assert costs["abab"] < costs["abba"] < costs["xyz"]
    two = ByteModel(["a"], 1)  # counts: a 1, end 1; two kinds, so (1 + 2/256) / 4 each
    expected = -2 * math.log2((1 + 2 / 256) / 4)
    assert abs(two.bits("a") - expected) < 1e-12
    unseen = -math.log2((2 / 256) / 4) - math.log2((1 + 2 / 256) / 4)
    assert abs(two.bits("b") - unseen) < 1e-12
    assert abs(2 * (1 + 2 / 256) / 4 + 254 * (2 / 256) / 4 - 1) < 1e-12


def test_a_parrot_is_seen() -> None:
    """Guards: a measure that cannot tell a parrot. It repeats one line; its unseen side is another one."""
    line, other = "paise kat gaye par refund nahi aaya", "card kho gaya hai turant block karo"
    parrot = {"train": [line] * 100, "seen": [line] * 30, "unseen": [other] * 30}
    found = measure(parrot, 5, 400)
    assert found["seen_5grams_in_train"] == 1
    assert found["unseen_5grams_in_train"] == 0
    assert found["unseen_over_seen_per_word"] > 1000
    assert found["distinct_3"] < 0.02
    assert len(cut([line] * 100, 21)) == 3
