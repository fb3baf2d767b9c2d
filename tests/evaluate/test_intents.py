"""Intents by likelihood."""

import json
from pathlib import Path

import pytest
import torch

from gpt.evaluate.intents import IntentSet, encode_question, intent_scores, read_intents
from gpt.tokenizer.chat_template import encode_chat
from tests.evaluate.tiny_models import tiny_model, tiny_tokenizer, write_product_files

LABELS = ("upi", "upi again", "her bank")


@pytest.mark.parametrize("as_chat", [True, False])
def test_the_likeliest_whole_name_wins(as_chat: bool) -> None:
    """Against the model's own log-probabilities of question and answer in one piece, for random weights.

    Guards: a name scored without its end (the shortest of two would always win), behind another query's
    context, or with a token of the question.
    """
    t = tiny_tokenizer()
    prompts = ("paisa wapas nahi aaya", "the merchant", "rupees by upi and so")
    right = {"acc": 0, "acc_norm_char": 0}
    model = tiny_model(7)
    queries = []
    for prompt in prompts:
        costs = {}
        for label in LABELS:
            if as_chat:
                messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": label}]
                ids, learned = encode_chat(t, messages)
            else:
                head, tail = t.encode(prompt + "\n"), t.encode(label + "\n")
                ids, learned = head + tail, [False] * len(head) + [True] * len(tail)
            with torch.no_grad():
                log_p = model(torch.tensor([ids]))[0].log_softmax(-1)
            costs[label] = -sum(
                float(log_p[i - 1, ids[i]]) for i, is_answer in enumerate(learned) if is_answer
            )
        queries.append((prompt, min(LABELS, key=costs.__getitem__)))
        right["acc"] += 1
        right["acc_norm_char"] += min(LABELS, key=lambda x: costs[x] / len(x)) == queries[-1][1]
    scores = intent_scores(
        model, t, IntentSet(name="s", labels=LABELS, queries=tuple(queries)), as_chat=as_chat, batch_tokens=64
    )
    assert [s.metric for s in scores] == ["intent_s_acc", "intent_s_acc_norm_char"]
    assert [s.value for s in scores] == [1.0, right["acc_norm_char"] / 3]
    assert {(s.n, s.unit) for s in scores} == {(3, "query")}
    assert [s.chance for s in scores] == pytest.approx([1 / 3, 1 / 3])
    wrong = tuple((p, next(x for x in LABELS if x != label)) for p, label in queries)
    scores = intent_scores(
        model, t, IntentSet(name="s", labels=LABELS, queries=wrong), as_chat=as_chat, batch_tokens=64
    )
    assert scores[0].value == 0


def test_a_name_is_the_assistants_whole_turn() -> None:
    """Guards: a name without the token that ends the turn, or with the end of the text behind it."""
    t = tiny_tokenizer()
    question = encode_question(t, "paisa kab", LABELS, as_chat=True)
    for label, ending in zip(LABELS, question.endings, strict=True):
        chat = [{"role": "user", "content": "paisa kab"}, {"role": "assistant", "content": label}]
        ids, _ = encode_chat(t, chat)
        assert [*question.context, *ending, t.end_of_text] == ids


def test_a_query_that_does_not_fit_is_said() -> None:
    """Guards: a query cut in silence, which is another question. 70 words are more than 64 tokens."""
    intents = IntentSet(name="s", labels=LABELS, queries=(("merchant " * 70, "upi"),))
    scores = intent_scores(tiny_model(), tiny_tokenizer(), intents, as_chat=False, batch_tokens=64)
    assert [s.value for s in scores] == [None, None]
    assert "max_seq_len is 64" in str(scores[0].absent)


def test_reading(tmp_path: Path) -> None:
    """Guards: one set's limit taken from another, a misspelt name that counts as an error of the model."""
    assert read_intents(tmp_path, 4) == []
    write_product_files(tmp_path)
    other = {"set": "b", "text": "x", "prompt": "ask x", "label": "l"}
    with (tmp_path / "intents.jsonl").open("a") as file:
        file.write(json.dumps(other) + "\n")
    (tmp_path / "intent_labels.json").write_text(
        json.dumps({"tiny": ["upi", "her bank", "wapas"], "b": ["k", "l"]})
    )
    found = {intents.name: intents for intents in read_intents(tmp_path, 4)}
    assert {name: len(intents.queries) for name, intents in found.items()} == {"tiny": 4, "b": 1}
    assert found["b"].labels == ("k", "l")
    assert found["b"].queries == (("ask x", "l"),)
    lines = (tmp_path / "intents.jsonl").read_text()
    for broken, reason in ((other | {"label": "m"}, "'m' is not in the list of b"), ({"set": "b"}, "label")):
        (tmp_path / "intents.jsonl").write_text(lines + json.dumps(broken) + "\n")
        with pytest.raises(ValueError, match=rf"intents.jsonl:{lines.count(chr(10)) + 1}: .*{reason}"):
            read_intents(tmp_path, 4)
