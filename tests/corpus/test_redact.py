"""The scrubber: hand-made cases, canaries, and what it must leave alone."""

import random

import pytest

from gpt.corpus.check_digits import luhn_digit, luhn_is_valid, verhoeff_digit, verhoeff_is_valid
from gpt.corpus.grammar import grammar
from gpt.corpus.hinglish import generate_chats
from gpt.corpus.log_record import record_texts
from gpt.corpus.payment_lines import generate_payment_logs
from gpt.corpus.planted import count_leaks, plant
from gpt.corpus.redact import redact, redact_all


def test_check_digits_by_hand() -> None:
    """Published examples: Luhn 7992739871-3; Verhoeff 236-3 (both from the methods' descriptions).

    Every change of one digit is noticed by both; Verhoeff notices every swap of two neighbours too,
    Luhn all but 09 and 90.
    """
    assert luhn_digit("7992739871") == "3"
    assert verhoeff_digit("236") == "3"
    assert luhn_is_valid("4111111111111111")
    number = "236" + verhoeff_digit("236")
    card = "411111111111111" + luhn_digit("411111111111111")
    for check, digits in ((verhoeff_is_valid, number), (luhn_is_valid, card)):
        assert check(digits)
        for place in range(len(digits)):
            for other in set("0123456789") - {digits[place]}:
                assert not check(digits[:place] + other + digits[place + 1 :])
    aadhaar = "23412341234" + verhoeff_digit("23412341234")
    for i in range(11):
        swapped = aadhaar[:i] + aadhaar[i + 1] + aadhaar[i] + aadhaar[i + 2 :]
        assert swapped == aadhaar or not verhoeff_is_valid(swapped)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("card 4111-1111 1111.1111 hai", "card [CARD] hai"),
        ("आधार २३४१ २३४१ २३४६", "आधार [AADHAAR]"),
        ("pan abcpe1234f, ABCPE 1234 F", "pan [PAN], [PAN]"),
        ("IFSC hdfc0001234", "IFSC [IFSC]"),
        ("+91-98765-43210 ya 098765 43210", "[PHONE] ya [PHONE]"),
        ("a.b@gmail.com, ramesh at gmail dot com", "[EMAIL], [EMAIL]"),
        ("x" * 70 + "@gmail.com", "x" * 6 + "[EMAIL]"),  # a blob before an @ costs its length, not its square
        ("ramesh.k@okaxis, 9876543210 @ ybl", "[UPI], [UPI]"),
        ("a/c no 50100234567890", "a/c no [ACCOUNT]"),
        ("otp 482913 aaya, cvv 123", "otp [OTP] aaya, cvv [CVV]"),
        ("mera naam ramesh kumar hai aur", "mera naam [NAME] hai aur"),
        ("Shri Ramesh Kumar ka khata", "Shri [NAME] ka khata"),
        ("मेरा नाम सुनीता शर्मा है", "मेरा नाम [NAME] है"),
        ("main Sunita bol rahi hoon", "main [NAME] bol rahi hoon"),
        ("sandesh 1, Priya Sharma bol rahi hoon", "sandesh 1, [NAME] bol rahi hoon"),
        ("हेलो, रमेश बोल रहा हूँ", "हेलो, [NAME] बोल रहा हूँ"),
        ("payer_name=RAMESH vpa=x.y@ybl", "payer_name=[NAME] vpa=[UPI]"),
        ("Dear RAMESH KUMAR, Rs.500 debited", "Dear [NAME], Rs.500 debited"),
        ("Rs 500 credited from RAMESH KUMAR Ref 12", "Rs 500 credited from [NAME] Ref 12"),
        ("UPI/P2A/432187654321/RAMESH KUMAR/HDFC", "UPI/P2A/432187654321/[NAME]/HDFC"),
        ("Thanks and regards,\nPriya Sharma", "Thanks and regards,\n[NAME]"),
        ("प्रिय रमेश कुमार, सुनीता के नाम पर", "प्रिय [NAME], [NAME] के नाम पर"),
        ("loan number is 1234567890", "loan number is [ACCOUNT]"),
        ('{"payer_name": "meena saxena"}', '{"payer_name": "[NAME]"}'),
        ('{"beneficiary":"Rahul","n":1}', '{"beneficiary":"[NAME]","n":1}'),
        ("<customer_name>Dev Rao</customer_name>", "<customer_name>[NAME]</customer_name>"),
        ('{"ref_no": "234123412346"}', '{"ref_no": "234123412346"}'),
        ("<utr>234123412346</utr>", "<utr>234123412346</utr>"),
    ],
)
def test_each_kind(text: str, expected: str) -> None:
    """One hand-made line a kind, with the separators people use; scrubbing twice changes nothing."""
    assert redact(text)[0] == expected
    assert redact(expected)[0] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("98765\u200b43210, 9876\u200d\u200b54 3210", "[PHONE], [PHONE]"),
        ("ra\u200bmesh@ok\u200baxis", "[UPI]"),
        ("call 9 8 7 6 5 4 3 2 1 0", "call [PHONE]"),
        ("98765 4321O, ５O1O0-23456", "[PHONE], ５O1O0-23456"),
        ("nine eight seven six five four three two one zero", "[PHONE]"),
        ("nau aath saat chhe paanch chaar teen do ek shunya pe", "[PHONE] pe"),
        ("ramesh [at] gmail [dot] com, ramesh at okaxis", "[EMAIL], [UPI]"),
        ("abcpe12o4f HDFCO001234", "[PAN] [IFSC]"),
        ("pay 500 4111 1111 1111 1111 now", "pay 500 [CARD] now"),
        ("txn failed call 9876543210", "txn failed call [PHONE]"),
        ("क\u200dष \u200b९८७६५ ४३२१० है", "क\u200dष \u200b[PHONE] है"),
    ],
)
def test_adversarial_spellings(text: str, expected: str) -> None:
    """Zero-width characters, misread letters, numbers in words: what is put in to get past a filter.

    And an amount before a card, and the word `txn` some words before a phone: both once hid the number.
    """
    assert redact(text)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "kya aap naam repeat kar sakte hain",
        "leg day naam ka ek alarm banaye",
        "the term is used here and the name is appropriate",
        "हाँ जी, मैं देख रही हूँ",
        "they worked together at DoSomething.org",
        "https://www.youtube.com/watch?v=SfII0I49QEE",
        "order 123-4567890-0987654 and Order #234-567-8901122334",
        "REF-20231016-0045, ref no 9876543210",
        "posted to a/c on 2026-03-14 10:22:31",
        "at 20260314102231 or 1773482551000 ms",
        "Pin code is 600001",
        "Rs 9876543210.00 turnover",
        "Dear Customer, your order",
        "mera naam galat hai aur naam change karna hai",
        "RRN: 432187654321 status ok",
        '2026-03-14T10:22:31+05:30 PAYTM amt=54643.25 rc=U16 payee=uber note="fees"',
        "Rs.500 debited from A/c XX1234 on 12-03-26",
        "last 4 digit 8250 h, २४ घंटे – wait",
        "sir ji, please ji",
        "Sach bol raha hoon",
        "phir se bol rahi hun, paise nahi aaye",
        "bank se baat kar raha hu",
    ],
)
def test_what_stays(text: str) -> None:
    """A scrubber that eats amounts, dates and references makes logs that teach nothing."""
    assert redact(text) == (text, {})


def test_name_is_removed_from_the_whole_record() -> None:
    """The agent repeats the customer's name without a cue."""
    texts, counts = redact_all(["mera naam Ramesh hai", "Dhanyavaad ramesh, refund aa jayega"])
    assert texts == ["mera naam [NAME] hai", "Dhanyavaad [NAME], refund aa jayega"]
    assert counts == {"NAME": 2}


def test_count_leaks_sees_a_leak_in_any_spacing() -> None:
    """A recall of 1.0 from a counter that sees nothing would be the worst defect here."""
    assert count_leaks(["98765 43210"], "call 9876-543210") == 1
    assert count_leaks(["९८७६५४३२१०"], "call 98765 43210") == 1
    assert count_leaks(["Ramesh Kumar"], "hello kumar ji") == 1
    assert count_leaks(["a.b@ybl", "ABCPE1234F"], "A.B@YBL abcpe1234f") == 2
    assert count_leaks(["98765 43210", "Ramesh"], "[PHONE] [NAME]") == 0
    plain = [g for g in generate_chats(400, seed=5, planted_fraction=1.0) if g.planted]
    seen = sum(count_leaks(g.planted, " ".join(record_texts(g.record))) for g in plain)
    assert seen == sum(len(g.planted) for g in plain), "nothing scrubbed: every canary is seen"


def test_recall_on_a_thousand_canaries_of_each_source() -> None:
    """At least 99% of the planted values leave no trace; the seeds are not those of tuning."""
    made = list(generate_chats(700, seed=90_001, planted_fraction=1.0))
    made += generate_payment_logs(700, seed=90_002, planted_fraction=1.0)
    planted = sum(len(g.planted) for g in made)
    leaked = sum(count_leaks(g.planted, " ".join(redact_all(record_texts(g.record))[0])) for g in made)
    assert planted >= 1000
    assert 1 - leaked / planted >= 0.99


def test_numbers_with_check_digits_need_no_cue() -> None:
    """Cards and Aadhaar are found by their check digit alone, in sentences of any language."""
    rng = random.Random(4)
    for kind in ("CARD", "AADHAAR", "PAN", "IFSC", "PHONE", "UPI", "EMAIL"):
        for _ in range(100):
            value = plant(kind, grammar(), rng)
            text, _ = redact(f"yeh dekhiye {value}, theek?")
            assert count_leaks([value], text) == 0, (kind, value, text)
