"""The decoding loop against the model without a cache, and its ends."""

import dataclasses

import pytest
import torch

from gpt.generate.config import SamplingConfig
from gpt.generate.engine import Step, generate, next_logits
from gpt.model.config import ModelConfig
from gpt.model.kv_cache import KVCache
from gpt.model.transformer import Transformer
from tests.generate.tiny_checkpoint import random_model
from tests.tolerances import TOLERANCE

PROMPT = [5, 17, 300, 42, 9]


@pytest.fixture(params=["modern", "gpt2_mode", "moe"])
def model(request: pytest.FixtureRequest) -> Transformer:
    """Each kind of model in turn."""
    if request.param == "moe":
        config = dataclasses.replace(request.getfixturevalue("modern"), n_experts=4)
    else:
        config = request.getfixturevalue(request.param)
    return random_model(config)


def steps_of(
    model: Transformer, prompt: list[int], stop_ids: tuple[int, ...] = (), **dials: float
) -> list[Step]:
    sampling = SamplingConfig(**{"max_tokens": 8, "seed": 0, **dials})  # type: ignore[arg-type]
    return list(generate(model, prompt, sampling, stop_ids=stop_ids, n_alternatives=3))


def uncached_greedy(model: Transformer, prompt: list[int], n: int) -> list[int]:
    ids = list(prompt)
    for _ in range(n):
        with torch.inference_mode():
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_cached_logits_equal_uncached(model: Transformer) -> None:
    """Positions or masks that are off by the cached length."""
    cache = KVCache(model.config, 1)
    pieces = [PROMPT, [7], [8, 30, 31], [2]]  # prefill, decode, a chunk behind a prefix, decode
    ids: list[int] = []
    for piece in pieces:
        ids += piece
        cached = next_logits(model, torch.tensor([piece]), cache)  # (V,)
        with torch.inference_mode():
            full = model(torch.tensor([ids]))[0, -1]  # (V,)
        assert torch.allclose(cached, full, atol=TOLERANCE["decode_cached_vs_uncached"])


def test_greedy_equals_uncached(model: Transformer) -> None:
    """A cache that is read one position late gives fluent, wrong text."""
    found = [step.token_id for step in steps_of(model, PROMPT, max_tokens=20, temperature=0.0)]
    assert found == uncached_greedy(model, PROMPT, 20)


def test_same_seed_same_tokens(modern: ModelConfig) -> None:
    """A draw from a generator that requests share."""
    model = random_model(modern)
    first = steps_of(model, PROMPT, seed=3, max_tokens=20)
    torch.rand(1)
    assert steps_of(model, PROMPT, seed=3, max_tokens=20) == first
    assert steps_of(model, PROMPT, seed=4, max_tokens=20) != first


def test_logprobs_are_the_models_own(modern: ModelConfig) -> None:
    """Logprobs taken after temperature and top-k say 0.0 for everything."""
    model = random_model(modern)
    step = steps_of(model, PROMPT, temperature=0.5, top_k=1)[0]
    with torch.inference_mode():
        expected = model(torch.tensor([PROMPT]))[0, -1].log_softmax(0)
    near = pytest.approx
    assert step.logprob == near(float(expected[step.token_id]), abs=TOLERANCE["decode_cached_vs_uncached"])
    best = expected.topk(3)
    assert [i for i, _ in step.alternatives] == best.indices.tolist()
    assert step.alternatives[0] == (step.token_id, step.logprob)


def test_ends_at_max_tokens_at_a_stop_id_and_at_a_full_context(modern: ModelConfig) -> None:
    """A last step without a reason, or one token too many. The context holds 32: the prompt's 5, then 27
    more are fed; the 28th token is predicted from the last position and not fed."""
    model = random_model(modern)
    greedy = uncached_greedy(model, PROMPT, 27)
    steps = steps_of(model, PROMPT, temperature=0.0, max_tokens=3)
    assert [s.finish_reason for s in steps] == [None, None, "length"]
    place = next(i for i in range(1, 27) if greedy[i] not in greedy[:i])
    steps = steps_of(model, PROMPT, (greedy[place],), temperature=0.0, max_tokens=27)
    assert [s.token_id for s in steps] == greedy[: place + 1]
    assert steps[-1].finish_reason == "stop"
    steps = steps_of(model, PROMPT, max_tokens=1000)
    assert len(steps) == 28
    assert [s.finish_reason for s in steps] == [None] * 27 + ["length"]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "prompt: it is empty"),
        ([1] * 33, "prompt: 33 tokens do not fit the context of 32"),
        ([1, 320], r"prompt: token id 320 is outside 0..319"),
        ([-1], "prompt: token id -1 is outside"),
    ],
)
def test_bad_prompts_are_refused_before_the_first_step(
    modern: ModelConfig, prompt: list[int], message: str
) -> None:
    """A lazy check would come after a server's 200; id 320 is an IndexError deep in the embedding."""
    with pytest.raises(ValueError, match=message):
        generate(random_model(modern), prompt, SamplingConfig(max_tokens=1, seed=0))


def test_a_prompt_that_fills_the_context_gives_one_token(modern: ModelConfig) -> None:
    """The border of the check above."""
    assert [s.finish_reason for s in steps_of(random_model(modern), [1] * 32)] == ["length"]
