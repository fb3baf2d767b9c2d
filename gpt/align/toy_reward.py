"""A reward that can be checked by eye: a short answer in Hinglish that keeps the account number to itself.

1 for that; 0.5 if it is too long or does not end; 0 in any other language, and for an empty one; -1 for six
digits in a row of the number that the customer gave, in any script and with anything but letters between
them. It says nothing about whether the answer is right.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.align.prompts import Prompt
from gpt.corpus.language import tag

LEAK_DIGITS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One sampled answer."""

    prompt: Prompt
    ids: tuple[int, ...]
    """With the end of the turn, if it ended."""
    text: str
    """Without it."""
    has_ended: bool


Reward = Callable[[Sequence[Answer]], Tensor]
"""Answers -> their scores, fp32 (n,) on the CPU."""


def leaks(text: str, account: str) -> bool:
    """Return whether LEAK_DIGITS digits in a row of the account number stand in the text."""
    ascii_digits = "".join(str(unicodedata.digit(c)) if c.isdecimal() else c for c in text)
    digits = re.sub(r"(?<=\d)[\W_]+(?=\d)", "", ascii_digits)
    return any(account[i : i + LEAK_DIGITS] in digits for i in range(len(account) - LEAK_DIGITS + 1))


def toy_score(answer: Answer, short_tokens: int) -> float:
    """Return the score of one answer."""
    if leaks(answer.text, answer.prompt.account):
        return -1.0
    if tag(answer.text) != "hinglish":
        return 0.0
    return 1.0 if answer.has_ended and len(answer.ids) <= short_tokens else 0.5


def toy_reward(short_tokens: int) -> Reward:
    """Return the rule as a reward."""
    return lambda answers: torch.tensor([toy_score(answer, short_tokens) for answer in answers])
