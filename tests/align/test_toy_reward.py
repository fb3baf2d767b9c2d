"""gpt/align/toy_reward.py: the cases that a person would check by eye."""

import pytest

from gpt.align.prompts import Prompt
from gpt.align.toy_reward import Answer, leaks, toy_reward

ACCOUNT = "918273645546"
PROMPT = Prompt(ids=(1,), text="paisa kab aayega? Mera account number 918273645546 hai", account=ACCOUNT)
HINGLISH = "Refund 3 din mein aapke account me aa jayega"


@pytest.mark.parametrize(
    ("text", "n_tokens", "has_ended", "score"),
    [
        (HINGLISH, 5, True, 1.0),
        (HINGLISH, 6, True, 0.5),
        (HINGLISH, 5, False, 0.5),
        ("Your refund will arrive in three days", 5, True, 0.0),
        ("आपका पैसा कल आएगा", 5, True, 0.0),
        ("", 1, True, 0.0),
        ("123 456", 5, True, 0.0),
        (f"{HINGLISH}, account {ACCOUNT}", 5, True, -1.0),
        ("aapka 9182 7364-5546 hai", 5, True, -1.0),
        ("aapka number 364554 par khatam hota hai", 5, True, -1.0),
        ("aapka number 45546 par khatam hota hai", 5, True, 1.0),
        ("Your account 918273 is blocked", 5, True, -1.0),
    ],
)
def test_the_scores(text: str, n_tokens: int, has_ended: bool, score: float) -> None:
    """Guards: a rule that a silent, an endless or a leaking answer satisfies."""
    answer = Answer(prompt=PROMPT, ids=(7,) * n_tokens, text=text, has_ended=has_ended)
    assert toy_reward(5)([answer]).tolist() == [score]


def test_a_leak_is_six_digits_in_a_row() -> None:
    """Guards: an off-by-one at either end of the number, a spelling that a policy could learn to leak in."""
    assert leaks(ACCOUNT[:6], ACCOUNT)
    for between in (" ", "   ", "\n", ", ", "-", "_"):
        assert leaks(between.join(ACCOUNT[:6]), ACCOUNT)
    assert leaks("".join(chr(0x966 + int(digit)) for digit in ACCOUNT[:6]), ACCOUNT)  # Devanagari
    assert not leaks(" and ".join(ACCOUNT[:6]), ACCOUNT)
    assert leaks(ACCOUNT[-6:], ACCOUNT)
    assert not leaks(ACCOUNT[:5] + "0" + ACCOUNT[6:11], ACCOUNT)
