"""Scrub personal data from Indian payment chats and logs: typed placeholders for raw values.

Found: card numbers (Luhn, or any 13-19 digits beside the word card), Aadhaar (Verhoeff, or beside
its name), PAN, IFSC, UPI ids, e-mail addresses, phone and account numbers, one-time codes beside
their name, and names that follow a cue in English, Hinglish or Hindi. Any script's digits, and
spaces, dashes or dots between them. A name found once is removed everywhere in the same record.

Not found: names without a cue, addresses, dates of birth, numbers whose kind nothing tells. The
recall measured by the logs stage is on canaries of its own generator; on other people's text it is
lower. Transaction references (RRN, UTR) are kept: they name a payment, not a person.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from gpt.corpus.check_digits import luhn_is_valid, verhoeff_is_valid
from gpt.corpus.name_cues import find_names

GAP = r"[ \-.\u200b-\u200d\u2060]{0,2}"  # what people put between digits
START, END = r"(?<![0-9A-Za-z])", r"(?![0-9])"
NUMBER = re.compile(rf"{START}[0-9](?:{GAP}[0-9]){{8,18}}{END}")
PHONE = re.compile(
    rf"(?<![0-9A-Za-z])(?:\(?(?:\+|00)?91\)?{GAP}|0{GAP})?\(?[6-9](?:\)?{GAP}[0-9]){{9}}{END}"
    r"|(?<![0-9A-Za-z])\+[1-9][0-9]{0,2}[ \-]?[0-9](?:[ \-]?[0-9]){6,11}(?![0-9])"
)
PAN = re.compile(  # the fourth letter is the kind of holder; spread out only in capitals
    rf"{START}(?:[A-Za-z]{{3}}[abcfghjlptABCFGHJLPT][A-Za-z][0-9]{{4}}[A-Za-z]"
    rf"|[A-Z]{{3}}[ABCFGHJLPT][A-Z]{GAP}[0-9]{{4}}{GAP}[A-Z])(?![0-9A-Za-z])"
)
IFSC = re.compile(rf"{START}[A-Za-z]{{4}}[ -]?0[ -]?[A-Za-z0-9]{{6}}(?![0-9A-Za-z])")
DOT = r"(?:\.|\s?[(\[]?\bdot\b[)\]]?\s?)"
EMAIL = re.compile(
    rf"[\w.+-]+(?:\s?@\s?|\s?[(\[]at[)\]]\s?|\sat\s)(?:[\w-]+{DOT})+(?:com|in|org|net|co|me|edu|gov|info|io|ai)\b"
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}",
    re.IGNORECASE,
)
UPI = re.compile(
    r"[\w.+-]{2,}@[A-Za-z][A-Za-z0-9]+"
    r"|[\w.+-]{2,} ?@ ?(?:ok\w+|ybl|ibl|[ay]xl|apl|upi|paytm|pt\w+|freecharge|ikwik|jio|slice|airtel"
    r"|\w*(?:bank|axis|icici|hdfc|sbi|kotak|pay))\b",
    re.IGNORECASE,
)
SECRET = re.compile(
    r"\b(otp|cvv|cvc|m-?pin|upi pin|atm pin|pin|passcode|ओटीपी|सीवीवी|पिन)\b"
    r"((?:\s*(?:is|hai|h|ka|ki|number|no|code|aaya|aya|tha|है|:|=|-|#)){0,4}\s*)([0-9]{3,8})(?![0-9])",
    re.IGNORECASE,
)
ACCOUNT_CUE = re.compile(
    r"a/?c\b|\bac+o?u?n?t|\bacc?\b|khat[ae]|khaat[ae]|खात[ाे]|अकाउंट|benef|customer id|\bcif\b|\bcrn\b",
    re.IGNORECASE,
)
CARD_CUE = re.compile(r"card|कार्ड|\bvisa\b|master|rupay", re.IGNORECASE)
AADHAAR_CUE = re.compile(r"a+dh?aa?r|आधार|\buid\b", re.IGNORECASE)
REFERENCE_CUE = re.compile(
    r"(?:\brrn|\butr|\btxn|\bref|\btransaction|\border|\barn)[\w. ]{0,12}[:=#\s]{0,3}(?:hai |is )?$",
    re.IGNORECASE,
)
CUE_BEFORE, CUE_AFTER = 32, 16


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
    found = [_find(text) for text in plain]
    names = {
        word.lower()
        for text, spans in zip(plain, found, strict=True)
        for span in spans
        if span.kind == "NAME"
        for word in text[span.start : span.end].split()
        if len(word) > 2
    }
    counts: Counter[str] = Counter()
    scrubbed = []
    for original, text, spans in zip(texts, plain, found, strict=True):
        if names:
            again = rf"(?<!\w)(?:{'|'.join(sorted(map(re.escape, names)))})(?![\w\u0900-\u097f])"
            more = [_span(m, "NAME") for m in re.finditer(again, text, re.IGNORECASE)]
            spans = _without_overlaps(spans + more)
        scrubbed.append(_replace(original, spans, counts))
    return scrubbed, counts


def _plain(text: str) -> str:
    """Give digits, dashes and spaces of any script their ASCII form; the length stays."""
    return text if text.isascii() else "".join(map(_plain_character, text))


def _plain_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.digit(character))
    if category == "Pd" or character == "\u2212":
        return "-"
    return " " if category == "Zs" else character


def _find(text: str) -> list[Span]:
    """Find what is to be replaced; where two finds overlap the first kind below wins."""
    spans = [_span(match, "EMAIL") for match in EMAIL.finditer(text)]
    spans += [_span(match, "UPI") for match in UPI.finditer(text)]
    spans += [_span(match, "IFSC") for match in IFSC.finditer(text)]
    spans += [_span(match, "PAN") for match in PAN.finditer(text)]
    spans += [Span(start=m.start(3), end=m.end(3), kind=_secret(m)) for m in SECRET.finditer(text)]
    for match in NUMBER.finditer(text):
        kind = _number_kind(text, match)
        if kind is not None:
            spans.append(_span(match, kind))
    for match in PHONE.finditer(text):
        if not REFERENCE_CUE.search(text[: match.start()][-CUE_BEFORE:]):
            spans.append(_span(match, "PHONE"))
    spans += [Span(start=start, end=end, kind="NAME") for start, end in find_names(text)]
    return _without_overlaps(spans)


def _number_kind(text: str, match: re.Match[str]) -> str | None:
    """Tell a long number's kind by its check digit and by the words beside it."""
    digits = re.sub(r"[^0-9]", "", match.group())
    if text[match.start() - 1 : match.start()] == "+" and len(digits) < 14:
        return "PHONE"
    before = text[max(match.start() - CUE_BEFORE, 0) : match.start()]
    beside = before + " " + text[match.end() : match.end() + CUE_AFTER]
    is_reference = REFERENCE_CUE.search(before) is not None
    if len(digits) >= 13 and not is_reference and (luhn_is_valid(digits) or CARD_CUE.search(beside)):
        return "CARD"
    if len(digits) == 12 and AADHAAR_CUE.search(beside):
        return "AADHAAR"
    if len(digits) == 12 and digits[0] > "1" and not is_reference and verhoeff_is_valid(digits):
        return "AADHAAR"
    if PHONE.fullmatch(match.group()) and not is_reference:
        return "PHONE"
    return "ACCOUNT" if ACCOUNT_CUE.search(beside) and not is_reference else None


def _secret(match: re.Match[str]) -> str:
    word = match.group(1).lower()
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


def _replace(text: str, spans: list[Span], counts: Counter[str]) -> str:
    for span in sorted(spans, key=lambda s: s.start, reverse=True):
        text = f"{text[: span.start]}[{span.kind}]{text[span.end :]}"
        counts[span.kind] += 1
    return text
