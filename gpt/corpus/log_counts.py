"""What is counted while the log set is made: repeats, languages, placeholders and the scrubber's score."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gpt.corpus.language import code_mixing_index
from gpt.corpus.log_record import Draft, record_texts
from gpt.corpus.planted import count_leaks


@dataclass(kw_only=True, slots=True)
class LogCounts:
    """Counts over drafts; recall and false positives are about generated ones alone."""

    redacted: Counter[str] = field(default_factory=Counter)
    """Placeholders put, by kind."""
    planted_by_kind: Counter[str] = field(default_factory=Counter)
    leaked_by_kind: Counter[str] = field(default_factory=Counter)
    """Planted values of which something is left after scrubbing."""
    n_clean: int = 0
    """Generated records without planted data."""
    n_clean_touched: int = 0
    """Of those, the ones in which the scrubber replaced something."""
    n_repeated: int = 0
    """Records left out because an earlier one has the same scrubbed text."""
    n_contaminated: int = 0
    """Records left out because they hold an item of an evaluation set that fetch found."""
    languages: Counter[str] = field(default_factory=Counter)
    code_mixing: float = 0.0
    """Mean code-mixing index (0..50) of the records that are hinglish."""

    def add(self, draft: Draft, scrubbed: str, redacted: Counter[str]) -> None:
        """Count a draft, its scrubbed text and the placeholders in it."""
        self.redacted += redacted
        for value, kind in zip(draft.planted, draft.kinds, strict=True):
            self.planted_by_kind[kind] += 1
            self.leaked_by_kind[kind] += count_leaks([value], scrubbed)
        if draft.record["source"] == "generated" and not draft.planted:
            self.n_clean += 1
            self.n_clean_touched += bool(redacted)

    def add_languages(self, records: Iterable[dict[str, Any]]) -> None:
        """Count the records' languages and measure how much the Hinglish ones mix."""
        mixed = []
        for record in records:
            self.languages[record["language"]] += 1
            if record["language"] == "hinglish":
                mixed.append(code_mixing_index("\n".join(record_texts(record))))
        self.code_mixing = sum(mixed) / max(len(mixed), 1)

    def metrics(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the figures of the kept records; recall is None when nothing was planted."""
        texts = [text for r in records if r["source"] == "generated" for text in record_texts(r)]
        planted, leaked = self.planted_by_kind.total(), self.leaked_by_kind.total()
        return {
            "n_real": sum(not r["synthetic"] for r in records),
            "n_synthetic": sum(r["synthetic"] for r in records),
            "n_repeated": self.n_repeated,
            "planted": planted,
            "leaked": leaked,
            "recall": 1 - leaked / planted if planted else None,
            "n_contaminated": self.n_contaminated,
            **{f"language_{language}": n for language, n in sorted(self.languages.items())},
            "code_mixing_index": round(self.code_mixing, 2),
            "redacted": self.redacted.total(),
            "false_positive_rate": self.n_clean_touched / max(self.n_clean, 1),
            **{f"distinct_{n}": round(distinct_n(texts, n), 4) for n in (1, 2, 3)},
        }


def distinct_n(texts: list[str], n: int) -> float:
    """Return the share of different n-grams of words among all of them (Li et al. 2016)."""
    total, seen = 0, set()
    for text in texts:
        tokens = text.split()
        grams = list(zip(*(tokens[i:] for i in range(n)), strict=False))
        total += len(grams)
        seen.update(grams)
    return len(seen) / max(total, 1)
