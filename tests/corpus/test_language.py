"""Language tags: by hand, and against real sets where the mirror has them."""

import os
from pathlib import Path

import pytest

from gpt.corpus.language import code_mixing_index, hindi_words, tag
from gpt.corpus.text_files import read_records

MIRROR = Path(os.environ.get("RAWGPT_DATA_MIRROR", "/nonexistent")) / "hinglish"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("My payment failed, please help me", "en"),
        ("mera UPI payment fail ho gaya, paisa kab wapas aayega?", "hinglish"),
        ("refund kab milega", "hinglish"),
        ("मेरा भुगतान विफल हो गया", "hi"),
        ("मेरा payment fail हो गया on friday", "hinglish"),
        ("quiero saber por qué mi tarjeta fue rechazada ayer cuando intenté pagar " * 2, "other"),
        ("мой платёж не прошёл", "other"),
        ("2026-03-14 10:22 4,500.00", "other"),
        ("", "other"),
        ("O Romeo, Romeo! wherefore art thou Romeo?", "en"),
    ],
)
def test_tags_by_hand(text: str, language: str) -> None:
    """One text of each kind, and the ones that a script alone would call wrong."""
    assert tag(text) == language


def test_lists_hold_no_english() -> None:
    """`me`, `to`, `main`, `hi`, `are` and `par` are Hindi too, and would call English texts Hinglish."""
    assert not hindi_words() & {
        "me",
        "to",
        "main",
        "hi",
        "are",
        "par",
        "the",
        "is",
        "so",
        "do",
        "in",
        "us",
        "same",
    }


def test_code_mixing_index_by_hand() -> None:
    """Das and Gambaeck: 100 x (1 - 3/5) for three Hindi and two English words; 0 for one language."""
    assert code_mixing_index("payment fail ho gaya hai") == pytest.approx(40)
    assert code_mixing_index("payment failed 123") == 0
    assert code_mixing_index("123") == 0


def test_real_commands_of_people() -> None:
    """Hinglish-TOP validation, which chose no word and no dial: 1,390 pairs."""
    path = MIRROR / "hinglish_top_human_validation.jsonl.bz2"
    if not path.is_file():
        pytest.skip(
            "RAWGPT_DATA_MIRROR names no folder with hinglish/hinglish_top_human_validation.jsonl.bz2"
        )
    records = list(read_records(path))
    assert sum(tag(r["cs_query"]) == "hinglish" for r in records) / len(records) > 0.97
    assert sum(tag(r["en_query"]) == "en" for r in records) / len(records) > 0.99
