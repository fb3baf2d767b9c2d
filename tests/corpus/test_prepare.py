"""Cleaning, choosing and splitting documents."""

import os
from pathlib import Path

import pytest

from gpt.corpus.clean import clean
from gpt.corpus.config import FetchConfig, LogsConfig
from gpt.corpus.prepare import prepare
from gpt.corpus.split import cut_text, split_ids, unit_hash


def config(**changes: object) -> FetchConfig:
    dials: dict[str, object] = {
        "source": "own",
        "text_field": "text",
        "val_fraction": 0.2,
        "seed": 1,
        "min_chars": 3,
        "extras": (),
    }
    return FetchConfig(**{**dials, **changes})  # type: ignore[arg-type]


def test_clean_by_hand() -> None:
    """Line ends, mark, controls and NFC by hand; joiners and spaces stay."""
    assert clean("\ufeffa\r\nb\rc\x00\x07\td  \n") == "a\nb\nc\td  \n"
    assert clean("e\u0301") == "\u00e9"
    assert clean("क्\u200dष") == "क्\u200dष"
    book = (
        "Header\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\nText.\n\n"
        "*** END OF THE PROJECT GUTENBERG EBOOK X ***\nLicence\n"
    )
    assert clean(book) == "Text.\n"


def test_clean_leaves_tiny_shakespeare_alone() -> None:
    """The char tokenizer's 1,115,394 characters and 65 symbols must survive the cleaner."""
    path = Path(os.environ.get("RAWGPT_DATA_MIRROR", "/nonexistent")) / "english" / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip("RAWGPT_DATA_MIRROR names no folder with english/tinyshakespeare.txt")
    text = path.read_text(encoding="utf-8")
    assert clean(text) == text
    assert (len(text), len(set(text))) == (1_115_394, 65)


def test_split_is_stable_when_documents_are_added() -> None:
    """A random shuffle would move old documents between the splits when one is added: leakage."""
    ids = [f"doc-{i}" for i in range(500)]
    before = split_ids(ids, val_fraction=0.1, seed=3)
    after = split_ids([*ids, *(f"new-{i}" for i in range(500))], val_fraction=0.1, seed=3)
    assert all(after[key] == before[key] for key in ids)
    assert split_ids(ids[::-1], val_fraction=0.1, seed=3) == before
    assert split_ids(ids, val_fraction=0.1, seed=4) != before
    share = sum(side == "val" for side in before.values()) / 500
    assert 0.05 < share < 0.16  # 0.1 +- 4 standard deviations of 500 draws
    assert 0 <= unit_hash("x", 0) < 1


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
def test_both_splits_get_a_document(fraction: float) -> None:
    """Two documents and a small fraction would leave validation empty."""
    assert sorted(split_ids(["a", "b"], val_fraction=fraction, seed=0).values()) == ["train", "val"]


def test_single_document_is_cut_at_a_paragraph() -> None:
    """By hand: 90% of 20 characters is 18; the nearest blank line ends at 16."""
    text = "aaaa\n\nbbbb cccc\n\nddd"
    train, val = cut_text(text, val_fraction=0.1)
    assert (train, val) == ("aaaa\n\nbbbb cccc\n\n", "ddd")
    assert cut_text("ab", val_fraction=0.01) == ("a", "b")
    assert cut_text("a\nbcd", val_fraction=0.5) == ("a\n", "bcd")
    with pytest.raises(ValueError, match="too few to split"):
        cut_text("a", val_fraction=0.5)
    made = prepare([("only", text)], config(val_fraction=0.1))
    assert [d["split"] for d in made.documents] == ["train", "val"]
    assert "".join(d["text"] for d in made.documents) == text
    assert "position" in made.rule


def test_short_and_repeated_documents_are_left_out() -> None:
    """The same text under two names would stand in both splits."""
    made = prepare([("a", "one text"), ("b", "one text\r"), ("c", "x"), ("d", "two\r\ntexts")], config())
    assert [(d["id"], d["text"]) for d in made.documents] == [
        ("a", "one text"),
        ("b", "one text\n"),
        ("d", "two\ntexts"),
    ]
    assert made.n_short == 1
    assert prepare([("a", "same"), ("b", "same"), ("c", "other")], config()).n_repeated == 1


def test_empty_corpus_and_equal_ids_are_refused() -> None:
    """An empty corpus would fail three stages later with a message about tokens."""
    with pytest.raises(ValueError, match="an empty corpus: 2 documents were read, 2 of them"):
        prepare([("a", ""), ("b", "  "[:1])], config())
    with pytest.raises(ValueError, match="two documents have the id 'a'"):
        prepare([("a", "text one"), ("a", "text two")], config())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_fraction": 0.0}, "val_fraction"),
        ({"val_fraction": 1.0}, "val_fraction"),
        ({"source": ""}, "source"),
        ({"text_field": ""}, "text_field"),
        ({"min_chars": 0}, "min_chars"),
        ({"extras": ("a", "a")}, "extras: a is listed twice"),
    ],
)
def test_bad_dials_are_named(change: dict[str, object], message: str) -> None:
    """A bad dial must say its own name."""
    with pytest.raises(ValueError, match=message):
        config(**change)


def test_logs_dials_are_checked() -> None:
    """No records at all, or a share above one, is refused by name."""
    good = {"n_chats": 1, "n_payment_logs": 1, "planted_fraction": 0.4, "seed": 1, "val_fraction": 0.1}
    LogsConfig(**good, use_real_sets=False, max_real=0)  # type: ignore[arg-type]
    for change in ({"n_chats": 0, "n_payment_logs": 0}, {"planted_fraction": 1.5}, {"n_chats": -1}):
        with pytest.raises(ValueError, match=next(iter(change))):
            LogsConfig(**{**good, **change}, use_real_sets=False, max_real=0)  # type: ignore[arg-type]
