"""gpt/generate/schedule.py: which tokens a step computes, by hand and in random walks without a model."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.generate.config import BatchConfig, SamplingConfig
from gpt.generate.request import Request
from gpt.generate.schedule import Schedule

SMALL = BatchConfig(max_running=4, cache_tokens=40, block_tokens=4, max_prompt_tokens=8)


def request(prompt_ids: list[int]) -> Request:
    """Return a request that samples anyhow."""
    return Request(prompt_ids, SamplingConfig(max_tokens=20, seed=0), (), 0)


def begin(*prompts: list[int], config: BatchConfig = SMALL) -> tuple[Schedule, list[Request]]:
    """Return a schedule in which prompts wait."""
    schedule = Schedule(config, config.cache_tokens // config.block_tokens)
    requests = [request(prompt) for prompt in prompts]
    schedule.waiting.extend(requests)
    return schedule, requests


def test_half_of_the_budget_is_the_oldest_prompts() -> None:
    """By hand, 8 tokens a step: a prompt of 14 and behind it ones of 9 and 3. The oldest gets 4, the least
    one its 3, and 1 is left, which is no block for the 9. Then 4 and 4 twice, and what is left."""
    schedule, (long, middle, short) = begin([1] * 14, [2] * 9, [3] * 3)
    plans = []
    for _ in range(4):
        plan = schedule.plan()
        schedule.computed(plan)
        plans.append([plan.get(r, 0) for r in (long, middle, short)])
    assert plans == [[4, 0, 3], [4, 4, 0], [4, 4, 0], [2, 1, 0]]


def test_requests_begin_in_order_when_their_blocks_are_there() -> None:
    """By hand, 10 blocks of 4: prompts of 15 and 20 tokens and one more take 4 and 6, so the third waits,
    though it is small; then the first leaves, and it begins."""
    schedule, (first, second, third) = begin([1] * 15, [2] * 20, [3])
    schedule.plan()
    assert schedule.running == [first, second]
    schedule.leave(first)
    schedule.plan()
    assert schedule.running == [second, third]


def test_the_youngest_gives_its_blocks_back() -> None:
    """By hand, 10 blocks: two requests know 19 tokens each, 5 blocks, and both want a sixth: the older takes
    it from the younger, which waits in front of a third with all that it knows."""
    schedule, (old, young) = begin([1] * 19, [2] * 19)
    third = request([3])
    while old.n_fresh or young.n_fresh:
        schedule.computed(schedule.plan())
    schedule.waiting.append(third)
    old.add(5)
    young.add(6)
    schedule.computed(schedule.plan())  # token 20 still fits
    old.add(7)
    young.add(8)
    plan = schedule.plan()
    assert plan == {old: 1}
    assert list(schedule.waiting) == [young, third]
    assert (young.blocks, young.n_computed, young.token_ids) == ([], 0, [6, 8])
    assert schedule.n_preempted == 1


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(["submit", "cancel", "step"]), max_size=60))
def test_random_walks(seed: int, walk: list[str]) -> None:
    """Guards: a block in two requests' hands that both write to, one that is lost, a step over its budget,
    a request that never gets its turn."""
    draw = random.Random(seed)
    schedule, _ = begin()
    n_blocks = schedule.pool.n_free

    def step() -> None:
        plan = schedule.plan()
        assert plan or not schedule.running
        assert sum(n for r, n in plan.items() if r.n_fresh > 1) <= SMALL.max_prompt_tokens
        for r, n in plan.items():
            first_written = r.n_computed // 4
            written = r.blocks[first_written : -(-(r.n_computed + n) // 4)]
            assert len(r.blocks) * 4 >= r.n_computed + n
            others = {b for other in schedule.running if other is not r for b in other.blocks}
            assert not others & set(written)
        schedule.computed(plan)
        for r in plan:
            if r.n_fresh == 0:
                r.add(draw.randrange(3))
                if len(r.token_ids) == 9 or len(r.known_ids) > 36:
                    schedule.leave(r)

    for act in walk:
        if act == "submit":
            beginning = draw.choice([[], [1] * 4, [1] * 8 + [2] * 4])
            ids = beginning + [draw.randrange(2) for _ in range(draw.randint(1, 12))]
            schedule.waiting.append(request(ids))
        elif act == "cancel" and schedule.running:
            schedule.leave(draw.choice([*schedule.running, *schedule.waiting]))
        else:
            step()
        held = {block for r in schedule.running for block in r.blocks}
        assert schedule.pool.n_free == n_blocks - len(held)
    for _ in range(1000):
        if schedule.running or schedule.waiting:
            step()
    assert not schedule.running
    assert not schedule.waiting
    assert schedule.pool.n_free == n_blocks
