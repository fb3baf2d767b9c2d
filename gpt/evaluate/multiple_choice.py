"""Multiple choice by likelihood: the ending that the model finds least surprising is its answer.

Three answers to one item, named apart because they are different numbers: `acc` takes the largest sum of
log-probabilities, `acc_norm_char` that sum per character of the ending (lm-eval's acc_norm), and
`acc_norm_token` per token of it (build-nanogpt's acc_norm). Equal scores: the first ending wins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gpt.evaluate.score import Score, ratio_score
from gpt.evaluate.token_nats import Sample, token_nats
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


def encode_items(tokenizer: Tokenizer, items: Sequence[Item], max_seq_len: int) -> list[list[Sample]]:
    """Return each item's endings as samples behind the context, whose beginning is cut when too long.

    Raises ValueError when an ending alone does not fit max_seq_len.
    """
    encoded = []
    for item in items:
        context = tokenizer.encode(item.context)
        samples: list[Sample] = []
        for ending in item.endings:
            tail = tokenizer.encode(" " + ending)
            if len(tail) > max_seq_len:
                raise ValueError(f"an ending of {len(tail)} tokens does not fit max_seq_len {max_seq_len}")
            head = context[-(max_seq_len + 1 - len(tail)) :]  # max_seq_len inputs and the last target
            samples.append(([*head, *tail], [False] * len(head) + [True] * len(tail)))
        encoded.append(samples)
    return encoded


def item_nats(
    model: Transformer, items: Sequence[Item], encoded: Sequence[Sequence[Sample]], batch_tokens: int
) -> list[ItemNats]:
    """Score every ending of every item."""
    flat = iter(token_nats(model, [sample for samples in encoded for sample in samples], batch_tokens))
    results = []
    for item in items:
        pieces = [next(flat) for _ in item.endings]
        results.append(
            ItemNats(
                nats=tuple(float(piece.double().sum()) for piece in pieces),
                n_tokens=tuple(len(piece) for piece in pieces),
                n_chars=tuple(max(1, len(ending)) for ending in item.endings),
                label=item.label,
            )
        )
    return results


def choice_scores(task: str, answers: Sequence[ItemNats]) -> dict[str, Score]:
    """Return the share of right answers by each rule: acc, acc_norm_char, acc_norm_token."""
    right: dict[str, list[float]] = {"acc": [], "acc_norm_char": [], "acc_norm_token": []}
    for a in answers:
        ones = [1] * len(a.nats)
        for rule, sizes in zip(right, (ones, a.n_chars, a.n_tokens), strict=True):
            cost = [n / size for n, size in zip(a.nats, sizes, strict=True)]
            right[rule].append(float(cost.index(min(cost)) == a.label))
    ones = [1] * len(answers)
    return {rule: ratio_score(f"{task}_{rule}", hits, ones, "item") for rule, hits in right.items()}
