"""gpt/align/rollout.py: what is sampled has the probabilities that training reads, whoever is beside it."""

import dataclasses

import pytest
import torch

from gpt.align.answers import measure
from gpt.align.log_probs import token_logprobs
from gpt.align.rollout import _draw, sample_answers
from gpt.align.toy_reward import toy_reward
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer
from tests.align.tiny_policy import body, dials, prompts, sampler
from tests.model.every_part import make
from tests.tolerances import TOLERANCE

PROMPTS = [(5,), tuple(range(30, 41)), (7, 8, 9), (100, 101)]
UNIFORMS = torch.rand(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def sample(model: Transformer, rows: list[int], *, stop_id: int = 0, batch_size: int = 4) -> list:
    return sample_answers(
        model,
        [PROMPTS[i] for i in rows],
        UNIFORMS[rows],
        temperature=0.7,
        stop_id=stop_id,
        batch_size=batch_size,
    )


@pytest.mark.parametrize("mode", ["modern", "gpt2_mode"])
def test_sampled_and_read_again_agree(mode: str, request: pytest.FixtureRequest) -> None:
    """Guards: a cache that sees another row's or padding's keys, a position counted from the padding, a
    temperature on one side only. Prompts of 1, 2, 3 and 11 tokens share one batch."""
    model = body(request.getfixturevalue(mode))
    if mode == "modern":  # and the parts that look back by a token
        dials = {"token_shift": True, "value_residual": True, "bigram_rows": 64}
        model = make(dataclasses.replace(model.config, **dials)).eval()
    for rollout in sample(model, [0, 1, 2, 3]):
        ids = torch.tensor([rollout.ids])
        logprobs = token_logprobs(model(ids[:, :-1]), ids[:, 1:], 0.7)[0, rollout.n_prompt - 1 :]
        assert logprobs.tolist() == pytest.approx(
            list(rollout.logprobs), abs=TOLERANCE["rollout_vs_teacher_forced"]
        )


def test_a_prompt_s_answer_is_its_own(modern: ModelConfig) -> None:
    """Guards: an answer that depends on who shares its batch, or on the order of the prompts."""
    model = body(modern)
    together = sample(model, [0, 1, 2, 3])
    alone = [sample(model, [i])[0] for i in range(4)]
    turned = sample(model, [3, 2, 1, 0], batch_size=3)[::-1]
    assert [r.ids for r in together] == [r.ids for r in alone] == [r.ids for r in turned]
    assert [r.n_prompt for r in together] == [1, 11, 3, 2]
    assert all(r.ids[: r.n_prompt] == p for r, p in zip(together, PROMPTS, strict=True))


def test_an_answer_ends_with_its_turn(modern: ModelConfig) -> None:
    """Guards: tokens behind the end of a turn, an end that is cut off, an answer beyond the limit."""
    model = body(modern)
    free = sample(model, [0, 1, 2, 3])
    assert [len(r.ids) - r.n_prompt for r in free] == [9, 9, 9, 9]
    stop = free[1].ids[11 + 3]
    ended = sample(model, [0, 1, 2, 3], stop_id=stop)
    first = free[1].ids.index(stop, 11)
    assert ended[1].ids == free[1].ids[: first + 1]
    assert ended[1].has_ended
    assert len(ended[1].logprobs) == first + 1 - 11
    assert not any(r.has_ended for r in free)


def test_draws_follow_the_probabilities() -> None:
    """Guards: the first or last token of an interval taken for its neighbour, a token of probability 0."""
    logprobs = torch.tensor([[0.25, 0.0, 0.5, 0.25]]).log().expand(6, 4)
    uniforms = torch.tensor([[0.0], [0.2499], [0.25], [0.7499], [0.7501], [0.999999]], dtype=torch.float64)
    assert _draw(logprobs, uniforms)[:, 0].tolist() == [0, 0, 2, 2, 3, 3]


def test_too_long_is_refused_with_the_dial(modern: ModelConfig) -> None:
    """Guards: an index error in the middle of a run."""
    with pytest.raises(ValueError, match=r"rollout\.answer_tokens: prompt and answer take 39 tokens of 32"):
        sample_answers(body(modern), [range(30)], UNIFORMS[:1], temperature=1.0, stop_id=0, batch_size=1)


def test_measuring_repeats_itself(modern: ModelConfig, tokenizer: Tokenizer) -> None:
    """Guards: a before and an after that differ by their draws."""
    align, model = dials("grpo"), body(modern)
    found = [measure(model, sampler(tokenizer, align), prompts(tokenizer), toy_reward(4)) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0]["toy_reward"] == found[0]["reward"]
