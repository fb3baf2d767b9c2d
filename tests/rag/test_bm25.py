"""BM25 by hand, and the features it counts."""

import math

import numpy as np
import pytest

from gpt.rag.bm25 import fit_bm25
from gpt.rag.features import feature_ids, words


def test_scores_by_hand() -> None:
    """Guards: an idf without its halves, a length counted in the wrong place, k1 and b exchanged.

    Three passages of 2, 2 and 4 words; the mean length is 8/3. For `cat`, in two of three passages,
    idf = ln(1 + 1.5 / 2.5) = ln 1.6; for `dog`, in one, ln(1 + 2.5 / 1.5) = ln(8 / 3). With k1 = 1, b = 0.5
    the passage `cat cat` has the length factor 0.5 + 0.5 * 2 / (8/3) = 0.875, so its weight of cat is
    ln 1.6 * 2 * 2 / (2 + 0.875). `a b cat dog` has 0.5 + 0.5 * 4 / (8/3) = 1.25: 2 / 2.25 of each idf.
    """
    bm25 = fit_bm25(["cat cat", "a b", "a b cat dog"], ngram_chars=0, k1=1.0, b=0.5)
    cat, dog = math.log(1.6), math.log(8 / 3)
    expected = [cat * 4 / 2.875, 0, (cat + dog) * 2 / 2.25]
    np.testing.assert_allclose(bm25.scores("Cat, dog?"), expected, rtol=1e-6)
    np.testing.assert_allclose(bm25.scores("cat cat dog")[0], 2 * expected[0], rtol=1e-6)
    assert bm25.scores("unheard of").tolist() == [0, 0, 0]


def test_the_bound_by_hand() -> None:
    """Guards: a coverage above 1, or one that an unknown word leaves alone.

    Over two passages an unknown word has idf = ln(1 + 2.5 / 0.5) = ln 6, `cat` in one of them
    ln(1 + 1.5 / 1.5) = ln 2; each at most (k1 + 1) = 2 times.
    """
    bm25 = fit_bm25(["cat", "dog"], ngram_chars=0, k1=1.0, b=0.0)
    assert bm25.bound("cat unheard") == pytest.approx(2 * (math.log(2) + math.log(6)))
    assert bm25.scores("cat")[0] / bm25.bound("cat") == pytest.approx(0.5)
    assert bm25.bound("") == 0


def test_features() -> None:
    """Guards: Hindi cut at its vowel signs, full-width or capital letters that match nothing, a short word
    without pieces, pieces that collide with words."""
    assert words("Ｍｅｒａ UPI-ID, मेरा भुगतान!") == ["mera", "upi", "id", "मेरा", "भुगतान"]
    assert len(feature_ids("card", 4)) == 1 + 3  # card, <car, card, ard>
    assert len(set(feature_ids("card", 4).tolist())) == 4
    assert len(feature_ids("a", 4)) == 2
    assert feature_ids("", 4).shape == (0,)
    shared = set(feature_ids("payment", 4).tolist()) & set(feature_ids("payments", 4).tolist())
    assert len(shared) == 5  # <pay paym ayme ymen ment


def test_an_empty_question_and_an_empty_passage() -> None:
    """Guards: a division by the mean length of nothing."""
    assert fit_bm25(["", "!"], ngram_chars=4, k1=1.2, b=0.75).scores("anything").tolist() == [0, 0]
