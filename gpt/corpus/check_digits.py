"""Check digits of card numbers (Luhn, ISO/IEC 7812-1 annex B) and Aadhaar (Verhoeff, 1969)."""

# The dihedral group D5: j, k -> j*k; and the permutation that Verhoeff applies at each position.
D5 = tuple(
    tuple((j + k) % 5 + 5 * (k > 4) if j < 5 else (j - k) % 5 + 5 * (k < 5) for k in range(10))
    for j in range(10)
)
PERMUTATION = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def luhn_is_valid(digits: str) -> bool:
    """Tell whether a card number's last digit is right."""
    return _luhn_sum(digits) % 10 == 0


def luhn_digit(digits: str) -> str:
    """Return the digit that makes `digits` + digit valid."""
    return str(-_luhn_sum(digits + "0") % 10)


def verhoeff_is_valid(digits: str) -> bool:
    """Tell whether an Aadhaar number's last digit is right."""
    return _verhoeff_fold(digits) == 0


def verhoeff_digit(digits: str) -> str:
    """Return the digit that makes `digits` + digit valid."""
    return next(d for d in "0123456789" if _verhoeff_fold(digits + d) == 0)


def _luhn_sum(digits: str) -> int:
    """Sum the digits from the right, every second one doubled and its own digits added."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total


def _verhoeff_fold(digits: str) -> int:
    check = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit)
        for _ in range(place % 8):
            value = PERMUTATION[value]
        check = D5[check][value]
    return check
