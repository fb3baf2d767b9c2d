"""gpt/report/plain_text.py."""

from gpt.report.plain_text import printable


def test_control_characters_are_replaced_and_words_kept() -> None:
    """Guards: an escape sequence that clears a screen; Devanagari taken for control characters."""
    assert printable("\x1b[2Ja\tb\n\u202ec\x00") == "\ufffd[2Ja\tb\n\ufffdc\ufffd"
    assert printable("पैसा कब मिलेगा? ₹500") == "पैसा कब मिलेगा? ₹500"
