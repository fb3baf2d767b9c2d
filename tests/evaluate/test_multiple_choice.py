"""Choices by likelihood."""

import dataclasses

import pytest
import torch

from gpt.evaluate.multiple_choice import Item, ItemNats, choice_scores, encode_items, item_nats
from tests.evaluate.tiny_models import tiny_model, tiny_tokenizer


def test_three_rules_by_hand() -> None:
    """Nats 4, 9, 10 over 1, 3, 2 tokens and 4, 18, 50 characters: sums say 0, tokens 1, characters 2.

    4 < 9 < 10; per token 4, 3, 5; per character 1, 0.5, 0.2. Guards acc_norm of the wrong kind.
    """
    for label, right in ((0, "acc"), (1, "acc_norm_token"), (2, "acc_norm_char")):
        answer = ItemNats(nats=(4.0, 9.0, 10.0), n_tokens=(1, 3, 2), n_chars=(4, 18, 50), label=label)
        scores = choice_scores("task", [answer])
        assert [rule for rule, score in scores.items() if score.value == 1] == [right]
        assert scores[right].metric == f"task_{right}"


def test_standard_error_by_hand() -> None:
    """1 of 4 right: s^2 = (0.75^2 + 3 * 0.25^2) / 3 = 0.25, standard error 0.5 / 2."""
    answers = [ItemNats(nats=(1.0, 2.0), n_tokens=(1, 1), n_chars=(1, 1), label=int(i > 0)) for i in range(4)]
    score = choice_scores("task", answers)["acc"]
    assert (score.value, score.stderr, score.n) == (0.25, 0.25, 4)


def test_item_nats_equal_the_models_own_probabilities() -> None:
    """Each ending behind its context, alone. Guards scoring the context or dropping the first token."""
    model, t = tiny_model(), tiny_tokenizer()
    items = [
        Item(context="the merchant paid", endings=("forty rupees", "her bank"), label=0),
        Item(context="paisa", endings=("wapas nahi aaya", "upi"), label=1),
    ]
    found = item_nats(model, items, encode_items(t, items, 64), batch_tokens=64)
    for item, nats in zip(items, found, strict=True):
        head = t.encode(item.context)
        for i, ending in enumerate(item.endings):
            ids = t.encode(f"{item.context} {ending}")
            with torch.no_grad():
                log_p = model(torch.tensor([ids]))[0].log_softmax(-1)
            expected = -sum(float(log_p[p - 1, ids[p]]) for p in range(len(head), len(ids)))
            assert nats.nats[i] == pytest.approx(expected, rel=1e-5)
            assert nats.n_tokens[i] == len(ids) - len(head)
            assert nats.n_chars[i] == len(ending)
        assert nats.label == item.label


def test_long_contexts_lose_their_beginning() -> None:
    """max_seq_len 8 holds 8 inputs and the target after them: 9 ids, the ending whole. Longer is refused."""
    t = tiny_tokenizer()
    item = Item(context="the merchant paid forty rupees by upi", endings=("again",), label=0)
    whole = t.encode(item.context) + t.encode(" again")
    (question,) = encode_items(t, [item], 8)
    assert [*question.context, *question.endings[0]] == whole[-9:]
    assert question.endings[0] == t.encode(" again")
    two = dataclasses.replace(item, endings=("again", "her bank again"))
    (question,) = encode_items(t, [two], 8)
    assert [*question.context, *question.endings[1]] == (t.encode(item.context) + question.endings[1])[-9:]
    with pytest.raises(ValueError, match="does not fit max_seq_len"):
        encode_items(t, [Item(context="a", endings=("merchant " * 9,), label=0)], 8)
