"""Continuation choice out of held-out text."""

from gpt.evaluate.continuation import continuation_items
from gpt.evaluate.multiple_choice import Item
from tests.evaluate.tiny_models import tiny_text, tiny_tokenizer

DOCUMENTS = [tiny_text(600, seed) for seed in range(3)]


def make(n_items: int = 12, seed: int = 0) -> list[Item]:
    return continuation_items(DOCUMENTS, n_items=n_items, context_chars=60, ending_chars=20, seed=seed)


def test_the_right_ending_goes_on_and_the_others_do_not() -> None:
    """Context + space + labelled ending stands in a document, no other choice does so there.

    Guards a shifted label, and distractors that overlap what they are told apart from.
    """
    items = make()
    assert len(items) == 12
    for item in items:
        (text,) = [d for d in DOCUMENTS if f"{item.context} {item.endings[item.label]}" in d]
        assert len(set(item.endings)) == 4
        for i, ending in enumerate(item.endings):
            assert ending in text
            assert (f"{item.context} {ending}" in text) == (i == item.label)
            assert ending not in item.context


def test_lengths_are_near() -> None:
    """No choice is longer or shorter than the right one by more than 3 characters; guards a length cue."""
    for item in make():
        right = len(item.endings[item.label])
        assert right >= 20
        assert all(abs(len(ending) - right) <= 3 for ending in item.endings)


def test_same_seed_same_items() -> None:
    """Guards a score that moves between runs; labels are spread over the four places."""
    assert make() == make()
    assert make() != make(seed=1)
    assert {item.label for item in make(40)} == {0, 1, 2, 3}


def test_endings_tokenize_as_in_running_text() -> None:
    """Context and ending encoded apart equal the whole: guards a token across the seam."""
    t = tiny_tokenizer()
    for item in make():
        ending = item.endings[item.label]
        assert t.encode(f"{item.context} {ending}") == t.encode(item.context) + t.encode(f" {ending}")


def test_short_text_gives_no_items() -> None:
    """Guards an endless search, and an item with fewer than four choices."""
    short = ["a few words only", "", tiny_text(30, 0)]
    assert continuation_items(short, n_items=5, context_chars=100, ending_chars=60, seed=0) == []
