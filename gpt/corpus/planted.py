"""Invented personal data in the many ways people write it, for measuring the scrubber.

Every value is drawn from a generator of random numbers; the check digits are right, the persons and
accounts are nobody's on purpose. What is planted is returned too, so that a leak can be counted.
"""

import random
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

from gpt.corpus.check_digits import luhn_digit, verhoeff_digit

DEVANAGARI_DIGITS = str.maketrans("0123456789", "०१२३४५६७८९")
BANK_CODES = ("HDFC", "SBIN", "ICIC", "UTIB", "KKBK", "PUNB", "BARB", "CNRB", "IDFB", "YESB")
CARD_STARTS = ("4", "51", "55", "6521", "6074", "8176")


def plant(kind: str, words: dict[str, Any], rng: random.Random) -> str:
    """Draw one value of a kind (PHONE, CARD, NAME_HI, ...), written as a customer might."""
    return _MAKERS[kind](words, rng)


def count_leaks(planted: Iterable[str], scrubbed: str) -> int:
    """Count the planted values of which something still stands in the scrubbed text.

    A number leaks when its digits stand there in any spacing, an id when it does, a name when any of
    its words of three letters or more does.
    """
    digits = re.sub(r"[^0-9]+", " ", _ascii_digits(re.sub(r"(?<=\d)[ .\-]{1,2}(?=\d)", "", scrubbed)))
    runs = digits.split()
    words = set(re.findall(r"[^\W\d_]+", scrubbed.lower().replace("[name]", " ")))
    words |= set(re.findall(r"[\w\u0900-\u097f.@+-]+", scrubbed.lower()))
    leaks = 0
    for value in planted:
        number = re.sub(r"[^0-9]", "", _ascii_digits(value))
        if len(number) >= 9 and not re.search(r"[A-Za-z@]", value):
            leaks += any(number in run for run in runs)
        elif number or "@" in value:
            leaks += value.lower() in scrubbed.lower()
        elif " at " in value:
            leaks += value.split(" at ")[0].lower() in words
        else:
            leaks += any(w.lower() in words for w in value.split() if len(w) > 2)
    return leaks


def _ascii_digits(text: str) -> str:
    return "".join(str(unicodedata.digit(c)) if c.isdecimal() else c for c in text)


def _digits(n: int, rng: random.Random) -> str:
    return "".join(rng.choice("0123456789") for _ in range(n))


def _spaced(number: str, groups: tuple[int, ...], rng: random.Random) -> str:
    """Write a number plain, in groups with spaces or dashes, and sometimes in Devanagari digits."""
    style = rng.random()
    if style < 0.5:
        parts, start = [], 0
        for size in groups:
            parts.append(number[start : start + size])
            start += size
        number = rng.choice((" ", " ", "-")).join(part for part in [*parts, number[start:]] if part)
    return number.translate(DEVANAGARI_DIGITS) if rng.random() < 0.08 else number


def _phone(words: dict[str, Any], rng: random.Random) -> str:
    prefix = rng.choice(("", "", "", "", "+91 ", "+91-", "+91", "91", "0"))
    return prefix + _spaced(rng.choice("6789") + _digits(9, rng), rng.choice(((5,), (3, 3))), rng)


def _card(words: dict[str, Any], rng: random.Random) -> str:
    start = rng.choice(CARD_STARTS)
    number = start + _digits(15 - len(start), rng)
    return _spaced(number + luhn_digit(number), (4, 4, 4), rng)


def _aadhaar(words: dict[str, Any], rng: random.Random) -> str:
    number = rng.choice("23456789") + _digits(10, rng)
    return _spaced(number + verhoeff_digit(number), (4, 4), rng)


def _pan(words: dict[str, Any], rng: random.Random) -> str:
    letters = "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(4))
    pan = f"{letters[:3]}P{letters[3]}{_digits(4, rng)}{rng.choice('ABCDEFGHJKLMNPQRSTUVWXYZ')}"
    return rng.choice((pan, pan, pan.lower(), f"{pan[:5]} {pan[5:9]} {pan[9:]}"))


def _ifsc(words: dict[str, Any], rng: random.Random) -> str:
    ifsc = f"{rng.choice(BANK_CODES)}0{_digits(6, rng)}"
    return rng.choice((ifsc, ifsc, ifsc.lower()))


def _account(words: dict[str, Any], rng: random.Random) -> str:
    number = rng.choice("123456789") + _digits(rng.choice((8, 10, 11, 13, 14, 15)), rng)
    return _spaced(number, (4, 4, 4), rng)


def _user(words: dict[str, Any], rng: random.Random) -> str:
    first, last = rng.choice(words["first_names"]).lower(), rng.choice(words["last_names"]).lower()
    return first + rng.choice(("", ".", "_", "-")) + rng.choice((last, last[0], _digits(3, rng)))


def _upi(words: dict[str, Any], rng: random.Random) -> str:
    left = _user(words, rng) if rng.random() < 0.7 else rng.choice("6789") + _digits(9, rng)
    return f"{left}{rng.choice(('@', '@', '@', ' @ '))}{rng.choice(words['handles'])}"


def _email(words: dict[str, Any], rng: random.Random) -> str:
    user, host = _user(words, rng).replace("-", "."), rng.choice(words["mail_hosts"])
    if rng.random() < 0.1:
        return f"{user} at {host.replace('.', ' dot ')}"
    return f"{user}@{host}"


def _name(words: dict[str, Any], rng: random.Random) -> str:
    name = rng.choice(words["first_names"])
    if rng.random() < 0.75:
        name += " " + rng.choice(words["last_names"])
    return rng.choice((name, name, name.lower(), name.lower(), name.upper()))


def _name_title(words: dict[str, Any], rng: random.Random) -> str:
    name = f"{rng.choice(words['first_names'])} {rng.choice(words['last_names'])}"
    return rng.choice(("Mr ", "Mrs. ", "Shri ", "Smt ", "Ms ", "Dr. ")) + name


def _name_hi(words: dict[str, Any], rng: random.Random) -> str:
    return rng.choice(words["names_devanagari"])


_MAKERS: dict[str, Callable[[dict[str, Any], random.Random], str]] = {
    "PHONE": _phone,
    "CARD": _card,
    "AADHAAR": _aadhaar,
    "PAN": _pan,
    "IFSC": _ifsc,
    "ACCOUNT": _account,
    "UPI": _upi,
    "EMAIL": _email,
    "NAME": _name,
    "NAME_TITLE": _name_title,
    "NAME_HI": _name_hi,
}
