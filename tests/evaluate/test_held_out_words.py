"""Bits per byte of held-out words."""

import json
import math
from pathlib import Path

import pytest
import torch

from gpt.evaluate.held_out_words import bits_per_byte, encode, read_words
from tests.evaluate.tiny_models import tiny_model, tiny_tokenizer

CHAT = {
    "kind": "chat",
    "source": "people",
    "language": "hinglish",
    "messages": [
        {"role": "user", "content": "paisa kab"},
        {"role": "assistant", "content": "wapas aaya"},
        {"role": "user", "content": "kab"},
        {"role": "assistant", "content": "kal"},
    ],
}
LINE = {"kind": "payment_log", "source": "generated", "language": "en", "text": "paid forty rupees by upi"}


@pytest.mark.parametrize("as_chat", [True, False])
def test_bits_of_the_words_over_their_bytes(as_chat: bool, tmp_path: Path) -> None:
    """Against the model's log-probabilities, by hand: `wapas aaya` and `kal` have 13 bytes, the log line 24.

    Guards: the user's words scored, the closing token's byte counted in one form and not in the other,
    the end left out, a record in another language's figure.
    """
    model, t = tiny_model(5), tiny_tokenizer()
    records = [CHAT, LINE]
    expected = {}
    for record, n_bytes in zip(records, (13, 24), strict=True):
        ids, scored, _ = encode(t, record, as_chat=as_chat)
        with torch.no_grad():
            log_p = model(torch.tensor([ids]))[0].log_softmax(-1)
        nats = -sum(float(log_p[i - 1, ids[i]]) for i, is_scored in enumerate(scored) if is_scored)
        expected[record["language"]] = (nats / math.log(2), n_bytes)
    chat_ids, chat_scored, _ = encode(t, CHAT, as_chat=as_chat)
    said = [i for i, is_scored in zip(chat_ids, chat_scored, strict=True) if is_scored]
    closing = [t.special_tokens["<|end|>"]] if as_chat else t.encode("\n")
    assert said == [*t.encode("wapas aaya"), *closing, *t.encode("kal"), *closing]
    path = tmp_path / "val.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = bits_per_byte(model, t, read_words(path, t, 0, 64, as_chat=as_chat), 64)
    assert {g: s.n for g, s in found.items()} == {
        "all": 2,
        "language en": 1,
        "language hinglish": 1,
        "source generated (payment log)": 1,
        "source people (chat)": 1,
    }
    for language, (bits, n_bytes) in expected.items():
        assert found[f"language {language}"].value == pytest.approx(bits / n_bytes, rel=1e-5)
    total = sum(bits for bits, _ in expected.values()) / 37
    assert found["all"].value == pytest.approx(total, rel=1e-5)


def test_reading(tmp_path: Path) -> None:
    """Each source has its own limit; a record whose first answer lies behind the cut has no words.

    Guards: one large source that crowds out the others, a division by no bytes.
    """
    path = tmp_path / "val.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in [LINE] * 5 + [CHAT]))
    words = read_words(path, tiny_tokenizer(), 2, 64, as_chat=True)
    assert [w.source for w in words] == ["generated", "generated", "people"]
    assert [w.source for w in read_words(path, tiny_tokenizer(), 2, 3, as_chat=True)] == ["generated"] * 2
    path.write_text(json.dumps(LINE) + "\n{\n")
    with pytest.raises(ValueError, match=r"val.jsonl:2: not a log record"):
        read_words(path, tiny_tokenizer(), 2, 64, as_chat=True)
