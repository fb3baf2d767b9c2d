"""Held-out logs as sequences, and the loss on them."""

import json
import math
from pathlib import Path

import pytest
import torch

from gpt.evaluate.log_loss import log_scores, read_log_sequences
from tests.evaluate.test_perplexity import uniform_model
from tests.evaluate.tiny_models import tiny_model, tiny_tokenizer
from tests.tolerances import TOLERANCE

CHAT = {
    "kind": "chat",
    "messages": [{"role": "user", "content": "paisa"}, {"role": "assistant", "content": "wapas aaya"}],
}
PAYMENT = {"kind": "payment_log", "text": "UPI 40"}


def write(path: Path, *records: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_sequences_are_the_chat_template_and_closed_text(tmp_path: Path) -> None:
    """By hand: user p a i s a end assistant ... end eot; a payment log closes with end-of-text too."""
    t = tiny_tokenizer()
    chat, payment = read_log_sequences(write(tmp_path / "val.jsonl", CHAT, PAYMENT), t)
    special = t.special_tokens
    answer = [*t.encode("wapas aaya"), special["<|end|>"]]
    head = [special["<|user|>"], *t.encode("paisa"), special["<|end|>"], special["<|assistant|>"]]
    assert chat.ids == [*head, *answer, t.end_of_text]
    assert [i for i, a in zip(chat.ids, chat.answer, strict=True) if a] == answer
    assert payment.ids == [*t.encode("UPI 40"), t.end_of_text]
    assert not any(payment.answer)


def test_uniform_loss_and_counts(tmp_path: Path) -> None:
    """Both losses are ln 300 for a uniform model; one record has answers, two have tokens."""
    sequences = read_log_sequences(write(tmp_path / "val.jsonl", CHAT, PAYMENT), tiny_tokenizer())
    answers, everything = log_scores(uniform_model(), sequences, 64, 512)
    assert answers.value == pytest.approx(math.log(300), abs=TOLERANCE["uniform_loss"])
    assert everything.value == pytest.approx(math.log(300), abs=TOLERANCE["uniform_loss"])
    assert (answers.n, everything.n) == (1, 2)


def test_answers_are_scored_apart(tmp_path: Path) -> None:
    """The sum over all targets less the prompt's is the answers'. Guards a mask shifted by one."""
    model, t = tiny_model(), tiny_tokenizer()
    sequences = read_log_sequences(write(tmp_path / "val.jsonl", CHAT), t)
    ids = sequences[0].ids
    with torch.no_grad():
        log_p = model(torch.tensor([ids[:-1]]))[0].log_softmax(-1)
    nats = [-float(log_p[i, target]) for i, target in enumerate(ids[1:])]
    n_answer = len(t.encode("wapas aaya")) + 1
    answers, everything = log_scores(model, sequences, 64, 512)
    assert answers.value == pytest.approx(sum(nats[-1 - n_answer : -1]) / n_answer, rel=1e-5)
    assert everything.value == pytest.approx(sum(nats) / len(nats), rel=1e-5)


def test_payment_logs_alone_leave_the_answers_absent(tmp_path: Path) -> None:
    """Guards 0/0 and a loss of 0 where no assistant speaks."""
    sequences = read_log_sequences(write(tmp_path / "val.jsonl", PAYMENT), tiny_tokenizer())
    answers, everything = log_scores(tiny_model(), sequences, 64, 512)
    assert answers.value is None
    assert answers.absent is not None
    assert everything.value is not None


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"kind": "poem"}, "kind: got 'poem'"),
        ({"kind": "chat"}, "not a log record"),
        ({"kind": "chat", "messages": [{"role": "bot", "content": ""}]}, "role: got 'bot'"),
    ],
)
def test_a_bad_record_is_named(tmp_path: Path, record: dict[str, object], message: str) -> None:
    """Guards records that are skipped in silence: the line's number stands in the message."""
    path = write(tmp_path / "val.jsonl", PAYMENT, record)
    with pytest.raises(ValueError, match=f"val.jsonl:2: {message}"):
        read_log_sequences(path, tiny_tokenizer())
