"""Canaries: what counts as brought back, and a counter that can say more than 0."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from gpt.evaluate.memorization import (
    Canary,
    encode_prefix,
    go_on,
    is_reproduced,
    memorization_scores,
    normalized,
    read_canaries,
)
from gpt.generate.config import SamplingConfig
from gpt.generate.engine import generate
from gpt.tokenizer.chat_template import encode_chat
from tests.evaluate.tiny_models import tiny_config, tiny_model, tiny_tokenizer, write_product_files


class Parrot:
    """A model that learned texts by heart: behind the longest beginning it knows, it says what comes next."""

    def __init__(self, texts: list[list[int]]) -> None:
        self.config = tiny_config()
        self.embed = SimpleNamespace(weight=torch.zeros(1))
        self.texts = texts
        self.read: dict[int, Tensor] = {}

    def hidden_states(self, token_ids: Tensor, cache: Any) -> Tensor:
        """Return one-hot next tokens (B, 1, V); `cache` only names the batch."""
        before = self.read.get(id(cache))
        ids = token_ids if before is None else torch.cat((before, token_ids), dim=1)
        self.read = {id(cache): ids}
        x = torch.zeros(len(ids), 1, self.config.vocab_size)
        for row, seen in zip(x, ids.tolist(), strict=True):
            known = next((t for t in self.texts if t[: len(seen)] == seen and len(t) > len(seen)), None)
            row[0, known[len(seen)] if known else 0] = 100.0
        return x

    def logits(self, x: Tensor) -> Tensor:
        """Return x (B, V): it is the answer."""
        return x


def test_a_parrot_is_caught() -> None:
    """A model that knows 3 of 5 texts by heart brings back 3 values, both ways; binomial error sqrt(5 .6 .4).

    Guards: a counter that says 0 whatever the model writes, continuations matched with other canaries'
    values, prompts of unequal length, a chat whose turns are dropped.
    """
    t = tiny_tokenizer()
    turns = ({"role": "user", "content": "the bank"}, {"role": "assistant", "content": "haan"})
    canaries = [
        Canary(value="98765 43210", prefix="paisa ", role=None, turns=()),
        Canary(value="4111-1111", prefix="the merchant paid by ", role="user", turns=()),
        Canary(value="a.b@okupi", prefix="wapas ", role="user", turns=turns),
        Canary(value="55512", prefix="her bank ", role="assistant", turns=turns[:1]),
        Canary(value="777 888", prefix="again ", role=None, turns=()),
    ]
    texts = [
        [*encode_prefix(t, c), *t.encode(f" {c.value} so")]
        for c in canaries
        if c.value not in ("55512", "777 888")
    ]
    found = memorization_scores(
        Parrot(texts),  # type: ignore[arg-type]
        t,
        canaries,
        n_tokens=14,
        seed=0,
        batch_tokens=64,
    )
    assert [(s.metric, s.value, s.n) for s in found] == [
        ("canaries_greedy", 3, 5),
        ("canaries_sampled", 3, 5),
    ]
    assert found[0].stderr == pytest.approx((5 * 0.6 * 0.4) ** 0.5)
    nothing = memorization_scores(
        Parrot([]),  # type: ignore[arg-type]
        t,
        canaries,
        n_tokens=14,
        seed=0,
        batch_tokens=64,
    )
    assert [s.value for s in nothing] == [0, 0]


def test_greedy_equals_the_engine() -> None:
    """Prompts of 1 to 11 tokens in batches, against one at a time. Guards: rows that read their neighbour's
    prompt, a prompt's own tokens replaced, an answer cut or shifted where prompts differ in length."""
    model, t = tiny_model(3), tiny_tokenizer()
    g = torch.Generator().manual_seed(2)
    prompts = [torch.randint(256, (n,), generator=g).tolist() for n in (5, 1, 11, 5, 8)]
    found = go_on(model, t, prompts, 6, temperature=0, seed=0, batch_tokens=20)
    for prompt, text in zip(prompts, found, strict=True):
        steps = generate(model, prompt, SamplingConfig(max_tokens=6, seed=0, temperature=0))
        assert text == t.decode([step.token_id for step in steps])


def test_samples_follow_the_models_probabilities() -> None:
    """4,000 draws behind one prompt: the likeliest token's share within 4 standard errors; a seed repeats.

    Guards: a temperature that is not 1, one draw for all rows.
    """
    model, t = tiny_model(3), tiny_tokenizer()
    prompt = t.encode("the merchant")
    with torch.no_grad():
        p = model(torch.tensor([prompt]))[0, -1].softmax(-1)
    places = [i for i in range(300) if "\ufffd" not in t.decode([i])]
    best = max(places, key=lambda i: float(p[i]))
    found = go_on(model, t, [prompt] * 4000, 1, temperature=1.0, seed=4, batch_tokens=4096)
    share, expected = found.count(t.decode([best])) / 4000, float(p[best])
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 4000) ** 0.5)
    assert found == go_on(model, t, [prompt] * 4000, 1, temperature=1.0, seed=4, batch_tokens=4096)
    assert found != go_on(model, t, [prompt] * 4000, 1, temperature=1.0, seed=5, batch_tokens=4096)


def test_disguises_count() -> None:
    """Guards: a number that comes back in other groups, in Devanagari or in capitals, and is missed."""
    assert normalized("98765-४३२१० ") == "9876543210"
    assert is_reproduced("98765 43210", "call 9876-543-210 now")
    assert is_reproduced("Ravi.K@okSBI", "to ravi k @ oksbi,")
    assert not is_reproduced("98765 43210", "9876543211")


@pytest.mark.parametrize("n_turns", [0, 1, 2, 3])
def test_a_prefix_stands_where_it_stood(n_turns: int) -> None:
    """The tokens in front of a value are those of the whole chat.

    Guards: a turn with the wrong role, a chat's first message read as a payment log.
    """
    t = tiny_tokenizer()
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": f"paisa {i}"} for i in range(n_turns)]
    role = roles[n_turns % 2]
    ids, _ = encode_chat(t, [*turns, {"role": role, "content": "call upi"}])
    prefix = encode_prefix(t, Canary(value="1", prefix="call ", role=role, turns=tuple(turns)))
    assert ids[: len(prefix)] == prefix
    assert t.decode(ids[len(prefix) :]).startswith(" upi")


def test_reading(tmp_path: Path) -> None:
    """Guards: a canary that anything reproduces (an empty value), a line without a value skipped."""
    assert read_canaries(tmp_path, 0) == []
    write_product_files(tmp_path)
    assert len(read_canaries(tmp_path, 0)) == 9
    assert len(read_canaries(tmp_path, 4)) == 4
    for row, reason in (
        ({"value": "--", "prefix": "a", "role": None, "turns": []}, "neither letters nor digits"),
        ({"value": "1", "role": None, "turns": []}, "prefix"),
        ({"value": "1", "prefix": "a", "turns": []}, "'role'.; run `dvc repro -f logs`"),
    ):
        (tmp_path / "canaries.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(ValueError, match=f"canaries.jsonl:1: not a canary .*{reason}"):
            read_canaries(tmp_path, 0)
