"""Multiple choice by likelihood: the ending that the model finds least surprising is its answer.

Three answers to one item, named apart because they are different numbers: `acc` takes the largest sum of
log-probabilities, `acc_norm_char` that sum per character of the ending (lm-eval's acc_norm), and
`acc_norm_token` per token of it (build-nanogpt's acc_norm). Equal scores: the first ending wins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gpt.evaluate.ending_nats import Question, ending_nats
from gpt.evaluate.score import Score, ratio_score
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One question."""

    context: str
    endings: tuple[str, ...]
    """Candidates; a space stands between the context and each."""
    label: int
    """Index of the right one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemNats:
    """What a model says to one item, an entry an ending."""

    nats: tuple[float, ...]
    """-ln p of the whole ending."""
    n_tokens: tuple[int, ...]
    n_chars: tuple[int, ...]
    label: int


def encode_items(tokenizer: Tokenizer, items: Sequence[Item], max_seq_len: int) -> list[Question]:
    """Return each item's tokens; a context too long for its longest ending loses its beginning.

    Raises ValueError when an ending alone does not fit max_seq_len.
    """
    encoded = []
    for item in items:
        tails = [tokenizer.encode(" " + ending) for ending in item.endings]
        longest = max(map(len, tails))
        if longest > max_seq_len:
            raise ValueError(f"an ending of {longest} tokens does not fit max_seq_len {max_seq_len}")
        head = tokenizer.encode(item.context)[-(max_seq_len + 1 - longest) :]  # inputs and the last target
        encoded.append(Question(context=head, endings=tails))
    return encoded


def item_nats(
    model: Transformer, items: Sequence[Item], encoded: Sequence[Question], batch_tokens: int
) -> list[ItemNats]:
    """Score every ending of every item."""
    return [
        ItemNats(
            nats=tuple(float(piece.double().sum()) for piece in pieces),
            n_tokens=tuple(len(piece) for piece in pieces),
            n_chars=tuple(max(1, len(ending)) for ending in item.endings),
            label=item.label,
        )
        for item, pieces in zip(items, ending_nats(model, encoded, batch_tokens), strict=True)
    ]


def choice_scores(task: str, answers: Sequence[ItemNats], unit: str = "item") -> dict[str, Score]:
    """Return the share of right answers by each rule: acc, acc_norm_char, acc_norm_token."""
    right: dict[str, list[float]] = {"acc": [], "acc_norm_char": [], "acc_norm_token": []}
    for a in answers:
        ones = [1] * len(a.nats)
        for rule, sizes in zip(right, (ones, a.n_chars, a.n_tokens), strict=True):
            cost = [n / size for n, size in zip(a.nats, sizes, strict=True)]
            right[rule].append(float(cost.index(min(cost)) == a.label))
    ones = [1] * len(answers)
    chance = sum(1 / len(a.nats) for a in answers) / len(answers)
    return {rule: ratio_score(f"{task}_{rule}", hits, ones, unit, chance) for rule, hits in right.items()}
