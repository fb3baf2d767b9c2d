"""gpt/generate/batch_engine.py: a request among others is the request alone, whatever happens beside it."""

import random
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.generate.batch_engine import BatchConfig, BatchEngine, Request
from gpt.generate.config import SamplingConfig
from gpt.generate.engine import Step, generate
from gpt.model.transformer import Transformer
from tests.generate.every_kind import KINDS, model_of
from tests.tolerances import TOLERANCE

TIGHT = BatchConfig(max_running=5, cache_tokens=48, block_tokens=4, max_prompt_tokens=8)
"""One context and no more: requests wait, and starve one another."""
ROOMY = BatchConfig(block_tokens=4, max_prompt_tokens=1000)
GREEDY = SamplingConfig(max_tokens=12, seed=1, temperature=0.0)


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> Transformer:
    """Each kind of model in turn."""
    return model_of(request.param)


def dials(draw: random.Random) -> SamplingConfig:
    """Draw one of the ways to sample: greedy, plain, penalized, cut by every rule."""
    ways: list[dict[str, float]] = [
        {"temperature": 0.0},
        {"temperature": 0.0, "repetition_penalty": 1.5},
        {},
        {"temperature": 0.7},
        {"temperature": 0.9, "top_p": 0.8, "repetition_penalty": 1.3},
        {"top_k": 5, "min_p": 0.05},
    ]
    max_tokens, seed = draw.choice([3, 10, 30]), draw.randint(0, 9)
    return SamplingConfig(max_tokens=max_tokens, seed=seed, **draw.choice(ways))  # type: ignore[arg-type]


def prompt(draw: random.Random) -> list[int]:
    """Draw a prompt of 1 to 37 tokens, some with one of two beginnings in common."""
    beginning = draw.choice([[], list(range(17)), [7] * 9])
    return beginning + [draw.randrange(97) for _ in range(draw.choice([1, 3, 20]))]


def run(engine: BatchEngine) -> dict[Request, list[Step]]:
    """Step until all have ended."""
    done: dict[Request, list[Step]] = {}
    while engine.has_work:
        for request, step in engine.step():
            done.setdefault(request, []).append(step)
    return done


def check_alone(model: Transformer, request: Request, together: list[Step]) -> None:
    """Compare a request's steps with those of `generate`."""
    alone = list(
        generate(model, request.prompt_ids, request.sampling, stop_ids=request.stop_ids, n_alternatives=2)
    )
    assert [s.token_id for s in together] == [s.token_id for s in alone]
    assert [s.finish_reason for s in together] == [s.finish_reason for s in alone]
    atol = TOLERANCE["decode_batched_vs_alone"]
    assert [s.logprob for s in together] == pytest.approx([s.logprob for s in alone], abs=atol)
    for ours, theirs in zip(together, alone, strict=True):
        assert [i for i, _ in ours.alternatives] == [i for i, _ in theirs.alternatives]


@pytest.mark.parametrize("config", [TIGHT, ROOMY], ids=["tight", "roomy"])
def test_a_request_among_others_is_the_request_alone(model: Transformer, config: BatchConfig) -> None:
    """Guards: draws, penalties, positions, masks, shifts or bigrams of one row given to another; a prompt
    cut into chunks, shared, or computed again after a preemption, that goes on at another place."""
    draw = random.Random(4)
    engine = BatchEngine(model, config)
    done: dict[Request, list[Step]] = {}
    for _ in range(16):
        request = engine.submit(prompt(draw), dials(draw), stop_ids=[3, 50], n_alternatives=2)
        done[request] = []
        for _ in range(draw.randint(0, 3)):
            for stepped, step in engine.step():
                done[stepped].append(step)
    for request, steps in run(engine).items():
        done[request] += steps
    if config is TIGHT:
        assert engine.schedule.n_preempted > 3
    assert sum(request.n_cached_prompt_tokens > 0 for request in done) > 3
    for request, steps in done.items():
        check_alone(model, request, steps)
    assert engine.schedule.pool.n_free == config.cache_tokens // config.block_tokens


@lru_cache
def smallest() -> Transformer:
    """The model of the random walks: one whose blocks carry more than keys and values."""
    return model_of("looks back")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(["submit", "cancel", "step"]), max_size=25))
def test_random_walks_leak_nothing_and_change_nothing(seed: int, walk: list[str]) -> None:
    """Guards: a block lost or held twice after a cancel, a neighbour's cancel that changes a text."""
    draw, model = random.Random(seed), smallest()
    engine = BatchEngine(model, TIGHT)
    pool = engine.schedule.pool
    n_blocks = pool.n_free
    done: dict[Request, list[Step]] = {}
    for act in walk:
        if act == "submit":
            done[engine.submit(prompt(draw), dials(draw), n_alternatives=2)] = []
        elif act == "cancel" and done:
            victim = draw.choice(list(done))
            held = len(victim.blocks)
            engine.cancel(victim)
            assert not victim.blocks
            assert held == 0 or pool.n_free > 0
            del done[victim]
        else:
            for request, step in engine.step():
                done[request].append(step)
        held = {block for request in engine.running for block in request.blocks}
        assert pool.n_free == n_blocks - len(held)
        assert not any(request.blocks for request in engine.waiting)
    for request, steps in run(engine).items():
        done[request] += steps
    assert pool.n_free == n_blocks
    for request, steps in done.items():
        check_alone(model, request, steps)


def test_a_beginning_in_common_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a system prompt read by each of those who came at once, or shared to its last token (which
    leaves nothing to predict from); texts that differ with and without. By hand: 20 tokens in blocks of 4
    and 2 more: the first computes 22, the others the last 2; the same prompt again computes its last block
    of 2 once more, and of a prompt of 20 alone, 4 blocks are shared and the fifth is computed."""
    model, system = model_of("looks back"), list(range(20))
    tokens = []
    hidden_states = model.hidden_states

    def counted(token_ids: torch.Tensor, *rest: object) -> torch.Tensor:
        tokens.append(token_ids.shape[1])
        return hidden_states(token_ids, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "hidden_states", counted)
    one = SamplingConfig(max_tokens=1, seed=0, temperature=0.0)
    texts = []
    for reuse in (True, False):
        engine = BatchEngine(model, BatchConfig(block_tokens=4, max_prompt_tokens=64, reuse_prefixes=reuse))
        requests = [engine.submit([*system, 90 + i, 60], one) for i in range(3)]
        first = run(engine)
        assert sum(tokens) == (22 + 2 + 2 if reuse else 3 * 22)
        assert [r.n_cached_prompt_tokens for r in requests] == ([0, 20, 20] if reuse else [0, 0, 0])
        tokens.clear()
        again = [engine.submit([*system, 90, 60], one), engine.submit(system, one)]
        second = run(engine)
        assert sum(tokens) == (2 + 4 if reuse else 22 + 20)
        assert [r.n_cached_prompt_tokens for r in again] == ([20, 16] if reuse else [0, 0])
        tokens.clear()
        texts.append([[s.token_id for s in steps] for steps in [*first.values(), *second.values()]])
    assert sorted(texts[0]) == sorted(texts[1])


def test_a_long_prompt_does_not_hold_up_those_who_generate() -> None:
    """Guards: a prefill that takes a step for itself. 40 tokens at most 8 a step: five steps, in each of
    which the other request gets its token, and the first token comes with the fifth."""
    engine = BatchEngine(model_of("modern"), TIGHT)
    short = engine.submit([1], GREEDY)
    assert [request for request, _ in engine.step()] == [short]
    long = engine.submit(list(range(40, 80)), GREEDY)
    order = [[request for request, _ in engine.step()] for _ in range(5)]
    assert order == [[short]] * 4 + [[short, long]]


def test_a_cancelled_request_is_gone_at_once() -> None:
    """Guards: a client that left and still costs a step or a block, whether it waited, ran or had ended."""
    engine = BatchEngine(model_of("modern"), BatchConfig(max_running=1, reuse_prefixes=False))
    n_blocks = engine.schedule.pool.n_free
    first, second = engine.submit([1], GREEDY), engine.submit([2], GREEDY)
    engine.step()
    assert engine.schedule.pool.n_free == n_blocks - 1
    engine.cancel(second)
    engine.cancel(first)
    engine.cancel(first)
    assert engine.schedule.pool.n_free == n_blocks
    assert not engine.has_work
    assert engine.step() == []


@pytest.mark.parametrize(
    ("bad", "message"), [([], "empty"), ([0, -1], "token id -1"), ([0] * 1000, "do not fit")]
)
def test_bad_prompts(bad: list[int], message: str) -> None:
    """Guards: a request that fails in the middle of its neighbours' step."""
    with pytest.raises(ValueError, match=message):
        BatchEngine(model_of("modern"), ROOMY).submit(bad, GREEDY)


def test_a_cache_that_cannot_hold_one_context_is_refused() -> None:
    """Guards: a request that waits for blocks that do not exist; a budget that never completes a block."""
    with pytest.raises(ValueError, match="cache_tokens: 50 in blocks of 20 do not hold one context of 48"):
        BatchEngine(model_of("modern"), BatchConfig(cache_tokens=50, block_tokens=20))
    with pytest.raises(ValueError, match="max_prompt_tokens: at least one block of 16 is needed, got 8"):
        BatchConfig(max_prompt_tokens=8)
    with pytest.raises(ValueError, match="cache_tokens: at least 1 is needed, got 0"):
        BatchConfig(cache_tokens=0)


def test_damaged_weights_are_said() -> None:
    """Guards: tokens drawn from NaN."""
    model = model_of("modern")
    with torch.no_grad():
        model.embed.weight[5] = torch.nan
    engine = BatchEngine(model, ROOMY)
    engine.submit([5], GREEDY)
    with pytest.raises(FloatingPointError, match="not finite"):
        engine.step()
