"""The search for evaluation items: found in disguise, at every edge, and nothing else."""

import json
import pickle
from pathlib import Path

import pytest

from gpt.corpus.contamination import GRAM_WORDS, SHORT_BYTES, index_items
from gpt.corpus.evaluation_sets import READERS, evaluation_items
from gpt.corpus.registry import names

LONG = "It was the best of times it was the worst of times it was the age of wisdom and of foolishness"
SHORT = "Which river flows through the city of Cairo in Egypt?"
TINY = "Who wrote Hamlet?"
SETS = {"long": [(LONG,), ("other " * 20,)], "short": [(SHORT,), (TINY,)]}
INDEX = index_items(SETS)
FILLER = "nothing to see here but plain words of a text that goes on and on for some time "


def test_sizes_by_hand() -> None:
    """An item too short to be told from a phrase must be counted as untested, not as clean."""
    assert INDEX.sizes == {"long": 2, "short": 2}
    assert INDEX.untested == {"long": 0, "short": 1}
    assert len("".join(filter(str.isalnum, TINY))) < SHORT_BYTES


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (LONG, {0}),
        (FILLER + LONG.upper().replace(" ", "\n\n") + FILLER, {0}),
        (FILLER + LONG.replace(" of ", ", of -- ") + "!", {0}),
        (" ".join(LONG.split()[4 : 4 + GRAM_WORDS]), {0}),
        (" ".join(LONG.split()[: GRAM_WORDS - 1]), set()),
        (SHORT, {2}),
        (FILLER + "WHICH RIVER flows through\tthe city, of cairo in egypt" + FILLER, {2}),
        (SHORT.replace("Cairo", "Giza"), set()),
        (SHORT[:-7], set()),
        (TINY, set()),
        ("", set()),
        (FILLER, set()),
        (LONG + " " + SHORT, {0, 2}),
    ],
)
def test_an_item_is_found_in_disguise(text: str, items: set[int]) -> None:
    """Case, punctuation and spaces change when a page is copied; one word less than the rule is no find."""
    assert INDEX.find([text]) == [items]
    assert INDEX.find([FILLER, text, FILLER]) == [set(), items, set()], "nor does its place matter"


def test_an_item_cut_by_two_texts_is_in_neither() -> None:
    """Texts are searched together for speed: a find must not run over the edge between them."""
    words = LONG.split()
    assert INDEX.find([" ".join(words[:10]), " ".join(words[10:])]) == [set(), set()]
    assert INDEX.find([SHORT[:30], SHORT[30:]]) == [set(), set()]


def test_quotes_and_devanagari() -> None:
    """Curly quotes and danda are punctuation; Devanagari letters are letters."""
    hindi = "मेरा भुगतान विफल हो गया और पैसे खाते से कट गए अब मुझे क्या करना चाहिए बताइए"
    index = index_items({"hi": [(hindi,)], "q": [("She said “don’t go there” and then left us all alone",)]})
    assert index.find(["x " + hindi.replace(" ", "। ") + " y"]) == [{0}]
    assert index.find(['she said "dont go there" and then left us all alone']) == [{1}]


def test_counts_by_set_and_pickle() -> None:
    """The index goes to worker processes, and a wrong numbering would blame another set."""
    index = pickle.loads(pickle.dumps(INDEX))
    (items,) = index.find([LONG + SHORT])
    table = index.by_set(items)
    assert table["long"] == {"items": 2, "untested": 0, "contaminated": 1, "share": 0.5}
    assert table["short"] == {"items": 2, "untested": 1, "contaminated": 1, "share": 1.0}
    assert index_items({}).find(["a text", "b"]) == [set(), set()]


def test_sets_are_read_where_fetch_put_them(tmp_path: Path) -> None:
    """The labels that a set's maintainers wrote must not hide an item; every reader's set is registered."""
    assert set(READERS) <= set(names())
    rows = {
        "triviaqa": {"context": "Question: " + SHORT + "\nAnswer:", "answer": "Nile"},
        "boolq": {"query": "Passage: A b.\nQuestion: is it\nAnswer:", "answer": "yes"},
        "lambada_openai": {"context": "one two", "continuation": "three"},
        "hellaswag_val": {"ctx": "He goes", "endings": ["in.", "out."], "label": 1},
    }
    for name, row in rows.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "items.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert evaluation_items(tmp_path) == {
        "hellaswag_val": [("He goes out.",)],
        "lambada_openai": [("one two three",)],
        "boolq": [("A b.\n", "is it\n")],
        "triviaqa": [(SHORT + "\n",)],
    }
