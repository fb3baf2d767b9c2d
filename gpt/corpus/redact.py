"""Scrub personal data from Indian payment chats and logs: typed placeholders for raw values.

Found: card numbers (Luhn, or any 13-19 digits beside the word card), Aadhaar (Verhoeff, or beside
its name), PAN, IFSC, UPI ids, e-mail addresses, phone and account numbers, one-time codes beside
their name, and names that follow a cue in English, Hinglish or Hindi. Any script's digits, and
spaces, dashes or dots between them, zero-width characters, letters O, I, l for digits, and numbers said
in words. A name found once is removed everywhere in the same record.

Not found: names without a cue, addresses, dates of birth, numbers whose kind nothing tells. The
recall measured by the logs stage is on canaries of its own generator; on other people's text it is
lower. Transaction references (RRN, UTR) are kept: they name a payment, not a person.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from gpt.corpus.check_digits import luhn_is_valid, verhoeff_is_valid
from gpt.corpus.name_cues import find_names
from gpt.corpus.pii_patterns import (
    AADHAAR_CUE,
    ACCOUNT_CUE,
    AMOUNT_CUE,
    CARD_CUE,
    CARD_START,
    CUE_AFTER,
    CUE_BEFORE,
    DATE,
    EMAIL,
    IFSC,
    MISREAD,
    NUMBER,
    ORDER,
    PAN,
    PHONE,
    REFERENCE_CUE,
    SECRET,
    SPOKEN,
    UPI,
)

LETTERS_AS_DIGITS = str.maketrans("OoIl", "0011")
DIGIT = re.compile("[0-9]")
AT_WORDS = (" at ", "(at)", "[at]")
PHONE_WORDS = [
    "six",
    "seven",
    "eight",
    "nine",
    "chh",
    "saat",
    "aath",
    "nau",
    "छ",
    "सात",
    "आठ",
    "नौ",
]  # an Indian one begins with these
ZERO_WIDTH = "\u00ad\u200b\u200c\u200d\u2060\ufeff"  # joiners shape Devanagari and part no word


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A piece of text to be replaced."""

    start: int
    end: int
    kind: str


def redact(text: str) -> tuple[str, Counter[str]]:
    """Return the text with placeholders such as [CARD], and how many of each kind were put."""
    (scrubbed,), counts = redact_all([text])
    return scrubbed, counts


def redact_all(texts: Iterable[str]) -> tuple[list[str], Counter[str]]:
    """Scrub the texts of one record; a name found in one of them is removed from all."""
    texts = list(texts)
    plain = [_plain(text) for text in texts]
    found = [_find(text) for text, _ in plain]
    names = {
        word.lower()
        for (text, _), spans in zip(plain, found, strict=True)
        for span in spans
        if span.kind == "NAME"
        for word in text[span.start : span.end].split()
        if len(word) > 2
    }
    counts: Counter[str] = Counter()
    scrubbed = []
    for original, (text, places), spans in zip(texts, plain, found, strict=True):
        if names:
            again = rf"(?<!\w)(?:{'|'.join(sorted(map(re.escape, names)))})(?![\w\u0900-\u097f])"
            more = [_span(m, "NAME") for m in re.finditer(again, text, re.IGNORECASE)]
            spans = _without_overlaps(spans + more)
        scrubbed.append(_replace(original, spans, places, counts))
    return scrubbed, counts


def _plain(text: str) -> tuple[str, Sequence[int]]:
    """Return the text as the expressions want it, and where each of its characters stood before.

    Digits, dashes and spaces of any script in ASCII form, no zero-width characters, and O, I, l among
    digits read as the digits that they stand for.
    """
    places: Sequence[int] = range(len(text) + 1)
    if not text.isascii():
        pairs = [(place, _plain_character(character)) for place, character in enumerate(text)]
        places = [place for place, character in pairs if character] + [len(text)]
        text = "".join(character for _, character in pairs)
    return MISREAD.sub(lambda match: match.group().translate(LETTERS_AS_DIGITS), text), places


@lru_cache(maxsize=4096)
def _plain_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.digit(character))
    if category == "Pd" or character == "\u2212":
        return "-"
    if character in ZERO_WIDTH:
        return ""
    return (
        " "
        if category == "Zs"
        else chr(ord(character) - 0xFEE0)
        if "\uff01" <= character <= "\uff5e"
        else character
    )


def _find(text: str) -> list[Span]:
    """Find what is to be replaced; where two finds overlap the first kind below wins."""
    spans: list[Span] = []
    lower = text.lower()
    if "@" in text or any(word in lower for word in AT_WORDS):
        spans += [_span(match, "EMAIL") for match in EMAIL.finditer(text)]
        spans += [_span(match, "UPI") for match in UPI.finditer(text)]
    if DIGIT.search(text):
        spans += _find_digits(text)
    if any(word in lower for word in PHONE_WORDS):
        spans += [_span(match, "PHONE") for match in SPOKEN.finditer(text)]
    spans += [Span(start=start, end=end, kind="NAME") for start, end in find_names(text)]
    return _without_overlaps(spans)


def _find_digits(text: str) -> Iterator[Span]:
    """Yield what has digits in it."""
    yield from (_span(match, "IFSC") for match in IFSC.finditer(text))
    yield from (_span(match, "PAN") for match in PAN.finditer(text))
    for match in SECRET.finditer(text):
        if kind := _secret(match):
            yield Span(start=match.start(3), end=match.end(3), kind=kind)
    for match in NUMBER.finditer(text):
        yield from _numbers(text, match)
    orders = [match.span() for match in ORDER.finditer(text)]
    for match in PHONE.finditer(text):
        is_order = any(start <= match.start() < end for start, end in orders)
        before = text[max(match.start() - CUE_BEFORE, 0) : match.start()]
        if not (is_order or REFERENCE_CUE.search(before) or AMOUNT_CUE.search(before)):
            yield _span(match, "PHONE")


def _numbers(text: str, match: re.Match[str]) -> Iterator[Span]:
    """Yield what a run of digits holds: itself, or the card or Aadhaar among its groups."""
    if ORDER.fullmatch(match.group()):
        return
    kind = _number_kind(text, match)
    if kind is not None:
        yield _span(match, kind)
        return
    groups = [
        (match.start() + g.start(), match.start() + g.end()) for g in re.finditer("[0-9]+", match.group())
    ]
    for first in range(len(groups)):  # "500 4111 1111 1111 1111": an amount before a card
        for last in range(first, len(groups)):
            start, end = groups[first][0], groups[last][1]
            digits = re.sub("[^0-9]", "", text[start:end])
            if len(groups) > 1 and _is_card(digits) and not _is_reference(text, start):
                yield Span(start=start, end=end, kind="CARD")


def _number_kind(text: str, match: re.Match[str]) -> str | None:
    """Tell a long number's kind by its check digit and by the words beside it."""
    digits = re.sub(r"[^0-9]", "", match.group())
    if text[match.start() - 1 : match.start()] == "+" and len(digits) < 14:
        return "PHONE"
    before = text[max(match.start() - CUE_BEFORE, 0) : match.start()]
    beside = before + " " + text[match.end() : match.end() + CUE_AFTER]
    is_reference = _is_reference(text, match.start())
    if not is_reference and (_is_card(digits) or (len(digits) >= 13 and CARD_CUE.search(beside))):
        return "CARD"
    if DATE.search(match.group()):
        return None
    if len(digits) == 12 and AADHAAR_CUE.search(beside):
        return "AADHAAR"
    if len(digits) == 12 and digits[0] > "1" and not is_reference and verhoeff_is_valid(digits):
        return "AADHAAR"
    if PHONE.fullmatch(match.group()) and not is_reference and not AMOUNT_CUE.search(before):
        return "PHONE"
    return "ACCOUNT" if ACCOUNT_CUE.search(beside) and not is_reference else None


def _is_card(digits: str) -> bool:
    """Tell whether digits alone are a card number: its length, its issuer and its check digit."""
    return len(digits) in (15, 16, 18, 19) and bool(CARD_START.match(digits)) and luhn_is_valid(digits)


def _is_reference(text: str, start: int) -> bool:
    return REFERENCE_CUE.search(text[max(start - CUE_BEFORE, 0) : start]) is not None


def _secret(match: re.Match[str]) -> str:
    """Name a secret's kind; empty for an Indian postal code."""
    word = match.group(1).lower()
    if word == "pin" and re.search("code", match.group(2), re.IGNORECASE) and len(match.group(3)) == 6:
        return ""
    if word in ("otp", "ओटीपी", "passcode"):
        return "OTP"
    return "CVV" if word in ("cvv", "cvc", "सीवीवी") else "PIN"


def _span(match: re.Match[str], kind: str) -> Span:
    return Span(start=match.start(), end=match.end(), kind=kind)


def _without_overlaps(spans: list[Span]) -> list[Span]:
    """Keep the earlier-listed of overlapping spans, widened to what the other covers."""
    kept: list[Span] = []
    for span in spans:
        hit = next((k for k in kept if span.start < k.end and k.start < span.end), None)
        if hit is None:
            kept.append(span)
        elif span.start < hit.start or span.end > hit.end:
            kept.remove(hit)
            start, end = min(span.start, hit.start), max(span.end, hit.end)
            kept = _without_overlaps([Span(start=start, end=end, kind=hit.kind), *kept])
    return kept


def _replace(text: str, spans: list[Span], places: Sequence[int], counts: Counter[str]) -> str:
    for span in sorted(spans, key=lambda s: s.start, reverse=True):
        text = f"{text[: places[span.start]]}[{span.kind}]{text[places[span.end - 1] + 1 :]}"
        counts[span.kind] += 1
    return text
