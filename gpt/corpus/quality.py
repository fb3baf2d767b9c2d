"""Rules that leave out documents that are hardly text. Each is a dial; 0 turns it off.

After Rae et al. 2021, *Scaling Language Models* (Gopher), table A1, with our own thresholds as dials:
lists of numbers, tables of symbols, navigation bars and the same line again and again. Not a judge of
whether a text is good, true or clean of personal data.
"""

import re
from dataclasses import dataclass

WORD = re.compile(r"\S+")
SYMBOL = re.compile(r"[#{}<>|\\^~=*_]|\.\.\.|\u2026")


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityConfig:
    """Which documents are left out for what they look like."""

    min_mean_word: float
    """Characters of the mean word, at least (Gopher: 3); 0 is off."""
    max_mean_word: float
    """Characters of the mean word, at most (Gopher: 10); 0 is off."""
    max_symbols: float
    """Symbols such as # { | and ellipses for each word, at most (Gopher: 0.1); 0 is off."""
    max_repeated_lines: float
    """Share of the characters that stand in a line which the document had before, at most (Gopher: 0.2);
    0 is off."""

    def __post_init__(self) -> None:
        for name in ("min_mean_word", "max_mean_word", "max_symbols", "max_repeated_lines"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: 0 (off) or more is needed, got {getattr(self, name)}")


def quality_fault(text: str, config: QualityConfig) -> str | None:
    """Return the name of the first rule that the text breaks, or None."""
    words = WORD.findall(text) if config.min_mean_word or config.max_mean_word or config.max_symbols else []
    mean = sum(map(len, words)) / max(len(words), 1)
    if config.min_mean_word and mean < config.min_mean_word:
        return "min_mean_word"
    if config.max_mean_word and mean > config.max_mean_word:
        return "max_mean_word"
    if config.max_symbols and len(SYMBOL.findall(text)) > config.max_symbols * len(words):
        return "max_symbols"
    if config.max_repeated_lines and _repeated_lines(text) > config.max_repeated_lines:
        return "max_repeated_lines"
    return None


def _repeated_lines(text: str) -> float:
    seen: set[str] = set()
    repeated = 0
    for line in text.split("\n"):
        plain = line.strip()
        repeated += len(plain) if plain in seen else 0
        seen.add(plain)
    return repeated / max(len(text), 1)
