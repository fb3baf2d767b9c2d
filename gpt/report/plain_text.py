"""A model's words as they may be shown: nothing in them that a terminal or a browser would obey."""

REPLACEMENT = "\ufffd"


def printable(text: str) -> str:
    """Return the text with every control character but newline and tab replaced."""
    return "".join(c if c.isprintable() or c in "\n\t" else REPLACEMENT for c in text)
