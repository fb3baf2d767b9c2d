"""gpt/generate/batch_engine.py: requests that come and go beside each other."""

import pytest

from gpt.generate.batch_engine import BatchConfig, BatchEngine, Request
from gpt.generate.config import SamplingConfig
from gpt.generate.engine import Step, generate
from gpt.model.config import ModelConfig
from tests.generate.tiny_checkpoint import random_model

PROMPTS = [[5, 3, 8, 1, 9], [7], [2, 2, 4]]
DIALS = [
    SamplingConfig(max_tokens=6, seed=1, temperature=0.0),
    SamplingConfig(max_tokens=9, seed=2, temperature=0.9, top_p=0.8, repetition_penalty=1.3),
    SamplingConfig(max_tokens=4, seed=3, top_k=5),
]


def run(engine: BatchEngine) -> dict[Request, list[Step]]:
    """Step until all have ended."""
    done: dict[Request, list[Step]] = {}
    while engine.has_work:
        for request, step in engine.step():
            done.setdefault(request, []).append(step)
    return done


def test_a_request_among_others_is_the_request_alone(modern: ModelConfig, gpt2_mode: ModelConfig) -> None:
    """Guards: draws, penalties or positions shared between rows; a late arrival read at another's place."""
    for config in (modern, gpt2_mode):
        model = random_model(config)
        engine = BatchEngine(model, BatchConfig(max_running=2))
        requests = [engine.submit(p, s, n_alternatives=2) for p, s in zip(PROMPTS, DIALS, strict=True)]
        done = run(engine)
        for request, prompt, sampling in zip(requests, PROMPTS, DIALS, strict=True):
            alone = list(generate(model, prompt, sampling, n_alternatives=2))
            together = done[request]
            assert [s.token_id for s in together] == [s.token_id for s in alone]
            assert [s.finish_reason for s in together] == [s.finish_reason for s in alone]
            assert [s.logprob for s in together] == pytest.approx([s.logprob for s in alone], abs=1e-5)


def test_a_cancelled_request_is_gone(modern: ModelConfig) -> None:
    """Guards: a client that left and still costs a step, whether it waited, ran or had ended."""
    engine = BatchEngine(random_model(modern), BatchConfig(max_running=1))
    first, second = engine.submit([1], DIALS[0]), engine.submit([2], DIALS[0])
    engine.step()
    engine.cancel(second)
    engine.cancel(first)
    engine.cancel(first)
    assert not engine.has_work
    assert engine.step() == []


@pytest.mark.parametrize(
    ("prompt", "message"), [([], "empty"), ([0, -1], "token id -1"), ([0] * 1000, "do not fit")]
)
def test_bad_prompts(modern: ModelConfig, prompt: list[int], message: str) -> None:
    """Guards: a request that fails in the middle of its neighbours' step."""
    with pytest.raises(ValueError, match=message):
        BatchEngine(random_model(modern), BatchConfig()).submit(prompt, DIALS[0])
