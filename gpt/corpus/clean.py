"""Make raw text plain: what a model should not have to learn goes, nothing else.

Line ends become "\\n", the text is NFC, a byte order mark, control characters (not tab, not newline)
and Project Gutenberg's header and licence go. Spaces, blank lines, case, zero-width joiners (Indic
scripts need them) and unusual letters stay: a clean text comes out as it went in. Not a quality
filter and not a deduplicator.
"""

import re
import unicodedata

GUTENBERG_START = re.compile(r"^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*$", re.M | re.I)
GUTENBERG_END = re.compile(
    r"^(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK|End of (?:the )?Project Gutenberg).*$",
    re.M | re.I,
)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")


def clean(text: str) -> str:
    """Return the text in plain form; what is plain already is returned as it is."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x85", "\n")
    text = unicodedata.normalize("NFC", CONTROL.sub("", text))
    start = GUTENBERG_START.search(text)
    if start is not None:
        text = text[start.end() :].lstrip("\n")
    end = GUTENBERG_END.search(text)
    if end is not None:
        text = text[: end.start()].rstrip("\n") + "\n"
    return text
