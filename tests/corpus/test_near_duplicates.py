"""Shingles, MinHash and the search for near-duplicates, against sets and against each other."""

import random

import numpy as np
import pytest

from gpt.corpus.near_duplicates import (
    N_PERMUTATIONS,
    band_keys,
    choose_bands,
    jaccard,
    near_duplicates,
    signatures,
)
from gpt.corpus.word_hashes import hash_words, shingle

PINNED = 15424313037071988122
WORDS = [f"word{i}" for i in range(3000)]


def word_shingles(text: str, n: int) -> set[tuple[str, ...]]:
    """The reference: tuples of words."""
    words = text.lower().split()
    return {tuple(words[i : i + n]) for i in range(max(len(words) - n + 1, 1))} if words else set()


def edited(text: str, share: float, rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) if rng.random() < share else word for word in text.split())


def found(texts: list[str], threshold: float = 0.8) -> list[tuple[int, int]]:
    keys = band_keys(texts, threshold=threshold, shingle_words=5)
    return list(near_duplicates(keys, texts.__getitem__, threshold=threshold, shingle_words=5))


def test_words_ignore_case_quotes_and_spaces() -> None:
    """A copy with other quotes or spaces must hash the same; Devanagari signs are part of their word."""
    hashes, owners = hash_words(["Don’t GO, there!", "dont  go\nthere", "मेरा नाम है।", "", "नाम"])
    assert owners.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 4]
    assert hashes[:3].tolist() == hashes[3:6].tolist()
    assert hashes[7] == hashes[9]
    assert len(set(hashes[:3].tolist() + hashes[6:9].tolist())) == 6


def test_hashes_do_not_depend_on_the_process() -> None:
    """Python's own hash() differs from run to run: the kept documents would too. Pinned by hand once."""
    hashes, _ = hash_words(["abc"])
    assert hashes.tolist() == [PINNED]
    assert hash_words(["x abc", "y"])[0][1] == PINNED, "nor on what stands beside it"


def test_shingles_equal_sets_of_tuples() -> None:
    """The vectorised n-grams must not cross texts nor drop one at an edge; short texts are one shingle."""
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS[:40], k=k)) for k in (0, 1, 4, 5, 6, 50, 3, 0, 200, 2)]
    grams, owners = shingle(texts, 5)
    of_text = [set(grams[owners == i].tolist()) for i in range(len(texts))]
    reference = [word_shingles(text, 5) for text in texts]
    assert [len(s) for s in of_text] == [len(s) for s in reference]
    assert of_text[5] == set(shingle([texts[5]], 5)[0].tolist())
    assert of_text[2] != set(shingle([" ".join(reversed(texts[2].split()))], 5)[0].tolist()), "order counts"


def test_signature_estimates_the_jaccard_without_bias() -> None:
    """A family of hashes that is no family finds nothing or everything: mean error and spread as theory says.

    The estimate of 128 independent minima has variance J(1-J)/128; 400 pairs.
    """
    rng = random.Random(2)
    errors, variance = [], 0.0
    for _ in range(400):
        text = " ".join(rng.choices(WORDS, k=150))
        other = edited(text, rng.choice((0.01, 0.03, 0.1)), rng)
        one, two = (word_shingles(t, 5) for t in (text, other))
        exact = len(one & two) / len(one | two)
        assert jaccard(*(np.unique(shingle([t], 5)[0]) for t in (text, other))) == exact
        sketch = signatures([text, other], 5)
        errors.append(float((sketch[0] == sketch[1]).mean()) - exact)
        variance += exact * (1 - exact) / N_PERMUTATIONS / 400
    assert abs(np.mean(errors)) < 4 * (variance / 400) ** 0.5
    assert 0.85 < np.std(errors) / variance**0.5 < 1.15  # 4 standard errors of a deviation of 400


def test_bands_by_hand() -> None:
    """By hand at 0.8: 5 rows, 25 bands miss (1-0.32768)^25 = 4.9e-5; 6 rows, 21 bands 1.7e-3, too much."""
    assert choose_bands(0.8) == (25, 5)
    assert choose_bands(1.0) == (8, 16)
    assert choose_bands(0.3) == (128, 1)  # 2 rows, 64 bands: 0.91^64 = 2.4e-3, too much


def test_planted_copies_are_found_and_others_stay() -> None:
    """Recall 1 on pairs at 0.8 and more, precision 1 by the exact Jaccard, with 300 originals."""
    rng = random.Random(3)
    texts = [" ".join(rng.choices(WORDS, k=200)) for _ in range(300)]
    texts += [edited(text, rng.choice((0.002, 0.01, 0.05)), rng) for text in texts]
    reference = [word_shingles(text, 5) for text in texts]

    def exact(one: int, other: int) -> float:
        return len(reference[one] & reference[other]) / len(reference[one] | reference[other])

    near = [(300 + i, i) for i in range(300) if exact(300 + i, i) >= 0.8]
    assert 100 < len(near) < 280
    assert found(texts) == near


def test_the_first_stays_and_later_documents_change_nothing() -> None:
    """A transitive rule would drop c for being like b, which is gone; and what comes later must not
    decide over what came earlier, or adding text moves documents."""
    words = WORDS[:100]
    a, b, c = (" ".join(words[i : i + 80]) for i in (0, 6, 12))
    assert jaccard(*(np.unique(shingle([t], 5)[0]) for t in (a, b))) == 70 / 82
    assert found([a, b, c]) == [(1, 0)]  # c is near b (70/82) and not near a (64/88)
    assert found([a, b, c, a, c]) == [(1, 0), (3, 0), (4, 2)]
    assert found([a]) == found([]) == []


def test_texts_without_words_are_not_near_each_other() -> None:
    """Two documents of punctuation have equal (empty) signatures and nothing in common."""
    assert found(["!!! ???", "--- ...", "..."]) == []


@pytest.mark.parametrize("batch", [50, 10**6])
def test_batches_do_not_show(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are hashed together for speed: their keys are those of each alone."""
    rng = random.Random(4)
    texts = ["", *(" ".join(rng.choices(WORDS, k=k)) for k in (3, 30, 7, 90)), "  "]
    monkeypatch.setattr("gpt.corpus.near_duplicates.BATCH_CHARS", batch)
    together = band_keys(texts, threshold=0.8, shingle_words=5)
    alone = [band_keys([text], threshold=0.8, shingle_words=5)[0] for text in texts]
    assert together.tolist() == [keys.tolist() for keys in alone]
