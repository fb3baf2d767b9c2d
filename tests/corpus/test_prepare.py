"""Cleaning, choosing and splitting documents."""

import hashlib
import json
import os
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from gpt.corpus.clean import clean
from gpt.corpus.config import FetchConfig, LogsConfig
from gpt.corpus.contamination import index_items
from gpt.corpus.evaluation_sets import Item
from gpt.corpus.prepare import Prepared, prepare
from gpt.corpus.quality import QualityConfig
from gpt.corpus.split import cut_text, split_ids, unit_hash
from tests.corpus.records import own_config


def config(**changes: object) -> FetchConfig:
    dials: dict[str, object] = {
        "source": "own",
        "text_field": "text",
        "val_fraction": 0.2,
        "seed": 1,
        "min_chars": 3,
        "redact": False,
        "near_duplicate_threshold": 0.0,
        "shingle_words": 5,
        "contamination": "report",
        "quality": QualityConfig(
            min_mean_word=0.0, max_mean_word=0.0, max_symbols=0.0, max_repeated_lines=0.0
        ),
        "processes": 1,
        "extras": (),
    }
    return FetchConfig(**{**dials, **changes})  # type: ignore[arg-type]


def prepared(
    folder: Path,
    raw: Iterable[tuple[str, str]],
    *,
    sets: dict[str, list[Item]] | None = None,
    **changes: object,
) -> tuple[Prepared, list[dict[str, str]]]:
    """Prepare (id, text) pairs in `folder`; return the counts and the documents that were written."""
    target = folder / "documents.jsonl"
    part_bytes = int(str(changes.pop("part_bytes", 200)))  # small parts: their edges are tested too
    made = prepare(raw, config(**changes), target, index_items(sets or {}), part_bytes=part_bytes)
    return made, [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]


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


def test_single_document_is_cut_at_a_paragraph(tmp_path: Path) -> None:
    """By hand: 90% of 20 characters is 18; the nearest blank line ends at 16."""
    text = "aaaa\n\nbbbb cccc\n\nddd"
    train, val = cut_text(text, val_fraction=0.1)
    assert (train, val) == ("aaaa\n\nbbbb cccc\n\n", "ddd")
    assert cut_text("ab", val_fraction=0.01) == ("a", "b")
    assert cut_text("a\nbcd", val_fraction=0.5) == ("a\n", "bcd")
    with pytest.raises(ValueError, match="too few to split"):
        cut_text("a", val_fraction=0.5)
    made, documents = prepared(tmp_path, [("only", text)], val_fraction=0.1)
    assert [d["split"] for d in documents] == ["train", "val"]
    assert "".join(d["text"] for d in documents) == text
    assert "position" in made.rule


def test_short_and_repeated_documents_are_left_out(tmp_path: Path) -> None:
    """The same text under two names would stand in both splits."""
    raw = [("a", "one text"), ("b", "one text\r"), ("c", "x"), ("d", "two\r\ntexts")]
    made, documents = prepared(tmp_path, raw)
    assert [(d["id"], d["text"]) for d in documents] == [
        ("a", "one text"),
        ("b", "one text\n"),
        ("d", "two\ntexts"),
    ]
    assert made.left_out["short"] == 1
    made, _ = prepared(tmp_path, [("a", "same"), ("b", "same"), ("c", "other")])
    assert made.left_out["repeated"] == 1


def test_empty_corpus_and_equal_ids_are_refused(tmp_path: Path) -> None:
    """An empty corpus would fail three stages later with a message about tokens."""
    with pytest.raises(ValueError, match="an empty corpus: 2 documents were read, 2 of them"):
        prepared(tmp_path, [("a", ""), ("b", "  "[:1])])
    with pytest.raises(ValueError, match="two documents have the id 'a'"):
        prepared(tmp_path, [("a", "text one"), ("a", "text two")])
    assert [path.name for path in tmp_path.iterdir()] == [], "nothing is left of a spill"


def test_parts_and_processes_change_nothing(tmp_path: Path) -> None:
    """Where the raw corpus is cut, and who cleans a part, must not show in the bytes."""
    rng = random.Random(3)
    raw = [(f"d{i}", " ".join(rng.choices(("aap", "kaise", "the", "failed"), k=40))) for i in range(60)]
    raw += [("copy", raw[7][1]), ("near", raw[8][1] + " theek")]
    dials: dict[str, object] = {"near_duplicate_threshold": 0.8}
    counts, documents = prepared(tmp_path, raw, part_bytes=10**6, **dials)
    assert (counts.left_out["repeated"], counts.left_out["near_duplicate"]) == (1, 1)
    assert {"copy", "near"}.isdisjoint(d["id"] for d in documents)
    assert prepared(tmp_path, raw, part_bytes=700, **dials) == (counts, documents)
    assert prepared(tmp_path, raw, part_bytes=9000, processes=2, **dials) == (counts, documents)


def test_a_near_duplicate_never_stands_on_both_sides(tmp_path: Path) -> None:
    """A validation document of which training has a variant measures memory, not learning."""
    rng = random.Random(5)
    raw = []
    for i in range(80):
        words = [f"w{rng.randrange(500)}" for _ in range(120)]
        raw.append((f"a{i}", " ".join(words)))
        raw.append((f"b{i}", " ".join([*words[:-1], "changed"])))
    _, both = prepared(tmp_path, raw, part_bytes=10**6)
    sides = {d["id"]: d["split"] for d in both}
    assert any(sides[f"a{i}"] != sides[f"b{i}"] for i in range(80)), "without the rule they do"
    _, documents = prepared(tmp_path, raw, part_bytes=10**6, near_duplicate_threshold=0.8)
    assert [d["id"] for d in documents] == [f"a{i}" for i in range(80)], "the first that was read stays"
    assert all(d["split"] == sides[d["id"]] for d in documents), "and stays on its side"


def test_evaluation_items_are_reported_or_dropped(tmp_path: Path) -> None:
    """A benchmark's item in the training text is a score that means nothing."""
    item = ("the quick brown fox jumps over one lazy dog while nobody looks at it at all",)
    raw = [("leak", "before it " + item[0].upper().replace(" ", ",  ") + " after"), ("fine", "a clean text")]
    raw.append(("other", "another clean text"))
    made, documents = prepared(tmp_path, raw, sets={"quiz": [item, ("unseen " * 20,)]})
    assert made.contamination == {"quiz": {"items": 2, "untested": 0, "contaminated": 1, "share": 0.5}}
    assert (made.n_contaminated, len(documents)) == (1, 3)
    made, documents = prepared(tmp_path, raw, sets={"quiz": [item]}, contamination="drop")
    assert [d["id"] for d in documents] == ["fine", "other"]
    assert made.left_out["contaminated"] == 1
    assert made.contamination["quiz"]["contaminated"] == 1, "what was dropped is still reported"


def test_scrubbed_corpus_has_no_raw_id(tmp_path: Path) -> None:
    """An id out of the source can be a phone number; so can the hash of a short raw text be searched."""
    raw = [
        ("logs.jsonl#9876543210", "refund kab aayega, sir"),
        ("logs.jsonl#41c0ffee", "call karo 98765 43210 pe"),
        ("logs.jsonl#77", "sab theek hai"),
    ]
    made, documents = prepared(tmp_path, raw, redact=True)
    assert [d["text"] for d in documents] == [raw[0][1], "call karo [PHONE] pe", raw[2][1]]
    ids = [d["id"] for d in documents]
    assert ids[2] == "logs.jsonl#77"
    for key, document in zip(ids[:2], documents, strict=False):
        assert key == "logs.jsonl#" + hashlib.sha256(document["text"].encode()).hexdigest()[:16]
    assert made.redacted == {"PHONE": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_fraction": 0.0}, "val_fraction"),
        ({"val_fraction": 1.0}, "val_fraction"),
        ({"source": ""}, "source"),
        ({"text_field": ""}, "text_field"),
        ({"min_chars": 0}, "min_chars"),
        ({"near_duplicate_threshold": 0.1}, "near_duplicate_threshold: 0 .off. or 0.3"),
        ({"shingle_words": 0}, "shingle_words"),
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
    good |= {"n_intents": 0, "n_replay": 0, "own": own_config()}
    LogsConfig(**good, use_real_sets=False, max_real=0)  # type: ignore[arg-type]
    for change in ({"n_chats": 0, "n_payment_logs": 0}, {"planted_fraction": 1.5}, {"n_chats": -1}):
        with pytest.raises(ValueError, match=next(iter(change))):
            LogsConfig(**{**good, **change}, use_real_sets=False, max_real=0)  # type: ignore[arg-type]
