"""gpt/generate/speculative.py and proposers.py: guesses decide the speed, never the text."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import torch

from gpt.generate.config import SamplingConfig
from gpt.generate.engine import generate
from gpt.generate.proposers import DraftModel, Proposal, Proposer, RepeatedText
from gpt.generate.sampling import Sampler, probabilities
from gpt.generate.speculative import Tally, generate_speculatively
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from tests.generate.every_kind import KINDS, model_of
from tests.model.every_part import make
from tests.tolerances import TOLERANCE

PROMPT = [5, 3, 8, 5, 3]
GREEDY = SamplingConfig(max_tokens=30, seed=0, temperature=0.0)
CHI_SQUARE_35_DF_P_001 = 66.62
"""Exceeded once in a thousand by a right sampler."""


class Noisy:
    """The model's own greedy guesses, every third of them wrong: some are taken and some are not."""

    def __init__(self, text: Sequence[int]) -> None:
        self.text = list(text)

    def propose(self, ids: Sequence[int], n: int, sampler: Sampler) -> Proposal:
        """Guess from the text that will come."""
        guesses = self.text[len(ids) : len(ids) + n]
        wrong = [(t + 1) % 97 if (len(ids) + i) % 3 == 0 else t for i, t in enumerate(guesses)]
        return Proposal(token_ids=tuple(wrong), probabilities=None)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_the_plain_greedy_text(kind: str) -> None:
    """Guards: a cache, a shift or a bigram that keeps what was refused; the token behind the guesses read
    from the wrong place; an end that comes late because guesses ran past it (30 tokens, or the context of
    48). Of Noisy's guesses some are taken and some refused in each pass."""
    model = model_of(kind)
    for sampling in (GREEDY, dataclasses.replace(GREEDY, max_tokens=1000, repetition_penalty=1.4)):
        plain = list(generate(model, PROMPT, sampling, n_alternatives=2))
        text = [*PROMPT, *(step.token_id for step in plain)]
        proposers: list[Proposer] = [Noisy(text), DraftModel(model, most=3), RepeatedText()]
        for proposer in proposers:
            tally = Tally()
            steps = list(
                generate_speculatively(
                    model, PROMPT, sampling, proposer, n_proposed=3, n_alternatives=2, tally=tally
                )
            )
            assert [s.token_id for s in steps] == [s.token_id for s in plain]
            assert [s.finish_reason for s in steps] == [s.finish_reason for s in plain]
            near = pytest.approx([s.logprob for s in plain], abs=TOLERANCE["decode_batched_vs_alone"])
            assert [s.logprob for s in steps] == near
            if isinstance(proposer, Noisy):
                assert 0 < tally.n_accepted < tally.n_proposed


def test_a_draft_that_is_the_model_is_always_right() -> None:
    """Guards: p and q processed by other dials, or out of step by one token. Each pass gives its 3 guesses
    and one token more: 28 tokens in 7 passes. Drawn, not greedy."""
    model, tally = model_of("looks back"), Tally()
    sampling = SamplingConfig(max_tokens=28, seed=3, temperature=0.8, top_k=20, repetition_penalty=1.2)
    draft = DraftModel(model, most=3)
    steps = list(generate_speculatively(model, PROMPT, sampling, draft, n_proposed=3, tally=tally))
    assert len(steps) == 28
    assert (tally.n_passes, tally.n_proposed, tally.n_accepted) == (7, 21, 21)


def tiny(seed: int) -> Transformer:
    """Return a model of six tokens."""
    config = ModelConfig(vocab_size=6, max_seq_len=8, dim=8, n_layers=1, n_heads=1, n_kv_heads=1, ffn_dim=8)
    model = make(config)
    torch.manual_seed(seed)
    with torch.no_grad():
        model.embed.weight.normal_(std=0.4)
    return model


class Wrong:
    """Always guesses token 0, then token 1, and is certain."""

    def propose(self, ids: Sequence[int], n: int, sampler: Sampler) -> Proposal:
        """Guess."""
        return Proposal(token_ids=(0, 1)[:n], probabilities=None)


@pytest.mark.parametrize(
    "make_proposer", [lambda: DraftModel(tiny(2), most=2), Wrong], ids=["draft", "wrong"]
)
def test_drawn_tokens_have_the_models_distribution(make_proposer: Callable[[], Proposer]) -> None:
    """Guards: guesses taken too often, a second draw from p itself, p of the wrong place, raw logits where
    the dials count. The pairs of first tokens of 700 texts against their 36 exact probabilities."""
    torch.set_num_threads(1)
    model, n = tiny(1), 700
    dials = SamplingConfig(max_tokens=3, seed=0, temperature=1.3, repetition_penalty=1.2, min_p=0.001)
    found: Counter[tuple[int, ...]] = Counter()
    tally = Tally()
    for seed in range(n):
        sampling = dataclasses.replace(dials, seed=seed)
        steps = generate_speculatively(model, [2], sampling, make_proposer(), n_proposed=2, tally=tally)
        found[tuple(step.token_id for step in steps)[:2]] += 1
    assert 0.02 < tally.n_accepted / tally.n_proposed < 0.98
    chi_square = 0.0
    for first in range(6):
        with torch.inference_mode():
            logits = model(torch.tensor([[2, first]]))[0]  # (2, V)
        p = probabilities(logits[0], [2], dials)[first] * probabilities(logits[1], [2, first], dials)
        for second in range(6):
            expected = float(p[second]) * n
            assert expected > 1, "a cell too rare for chi-square"
            chi_square += (found[first, second] - expected) ** 2 / expected
    assert chi_square < CHI_SQUARE_35_DF_P_001


def test_repeated_text_by_hand() -> None:
    """By hand: behind `1 2 3` stood 4 5 1, the latest of two matches; a longer match goes before a later
    one; nothing repeats, nothing is guessed."""
    sampler = Sampler(GREEDY)

    def guess(ids: list[int], n: int = 3) -> tuple[int, ...]:
        return RepeatedText().propose(ids, n, sampler).token_ids

    assert guess([1, 2, 3, 9, 1, 2, 3, 4, 5, 1, 2, 3]) == (4, 5, 1)
    assert guess([7, 8, 4, 6, 8, 5, 7, 8]) == (4, 6, 8)
    assert guess([7, 8, 4, 7], 1) == (8,)
    assert guess([1, 2, 3]) == ()
    assert guess([1]) == ()


def test_bad_requests() -> None:
    """Guards: a request that fails after the first token."""
    model = model_of("modern")
    with pytest.raises(ValueError, match="prompt: it is empty"):
        generate_speculatively(model, [], GREEDY, RepeatedText())
    with pytest.raises(ValueError, match="draft_tokens: at least 1 is needed, got 0"):
        generate_speculatively(model, PROMPT, GREEDY, RepeatedText(), n_proposed=0)
