"""The quality rules, each by hand at its threshold."""

import pytest

from gpt.corpus.quality import QualityConfig, quality_fault

OFF = {"min_mean_word": 0.0, "max_mean_word": 0.0, "max_symbols": 0.0, "max_repeated_lines": 0.0}


@pytest.mark.parametrize(
    ("dial", "value", "passes", "fails"),
    [
        ("min_mean_word", 3.0, "one two", "1 2 3 four"),
        ("max_mean_word", 10.0, "abcdefghij abcdefghij", "abcdefghijk"),
        ("max_symbols", 0.5, "# a b c", "# a ... b ..."),
        ("max_repeated_lines", 0.2, "menu\nmenu\nlong enough text", "menu\nmenu\nmenu"),
    ],
)
def test_each_rule_at_its_threshold(dial: str, value: float, passes: str, fails: str) -> None:
    """A rule that is off must pass everything; one that is on must say its own name."""
    on = QualityConfig(**{**OFF, dial: value})
    assert quality_fault(passes, on) is None
    assert quality_fault(fails, QualityConfig(**OFF)) is None
    assert quality_fault(fails, on) == dial


def test_a_negative_dial_is_named() -> None:
    """A negative share would leave out every document."""
    with pytest.raises(ValueError, match="max_symbols"):
        QualityConfig(**{**OFF, "max_symbols": -1.0})
