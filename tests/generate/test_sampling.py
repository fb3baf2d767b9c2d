"""Sampling against numbers derived by hand, a plain-Python reference and chi-square."""

import math
import random

import pytest
import torch

from gpt.generate.config import SamplingConfig
from gpt.generate.sampling import Sampler, choose_all, draw, probabilities
from tests.tolerances import TOLERANCE

FOUR = [0.5, 0.25, 0.15, 0.1]
CHI_SQUARE_3_DF_P_001 = 16.27  # exceeded once in a thousand by a right sampler


def sampling(**dials: float) -> SamplingConfig:
    return SamplingConfig(**{"max_tokens": 1, "seed": 0, **dials})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dials", "seen", "expected"),
    [
        ({}, [], FOUR),
        ({"temperature": 0.0}, [], [1, 0, 0, 0]),
        ({"temperature": 0.5}, [], [p * p / 0.345 for p in FOUR]),  # 0.25+0.0625+0.0225+0.01
        ({"top_k": 2}, [], [2 / 3, 1 / 3, 0, 0]),
        ({"top_k": 9}, [], FOUR),
        ({"top_p": 0.7}, [], [2 / 3, 1 / 3, 0, 0]),  # 0.5 is short of 0.7, 0.75 reaches it
        ({"top_p": 0.8}, [], [5 / 9, 2.5 / 9, 1.5 / 9, 0]),
        ({"top_p": 1e-6}, [], [1, 0, 0, 0]),  # the likeliest always stays
        ({"min_p": 0.4}, [], [2 / 3, 1 / 3, 0, 0]),  # at least 0.4 * 0.5 = 0.2
        ({"repetition_penalty": 2.0}, [0, 0], [1 / 3, 1 / 3, 0.2, 0.4 / 3]),  # log 0.5 doubled is log 0.25
        ({"top_k": 2, "top_p": 0.6}, [], [1, 0, 0, 0]),  # after top-k the first has 2/3 of the mass
        ({"temperature": 2.0, "top_p": 0.5}, [], [0.58579, 0.41421, 0, 0]),  # sqrt: 0.379, 0.268 of the mass
    ],
)
def test_hand_numbers(dials: dict[str, float], seen: list[int], expected: list[float]) -> None:
    """Dials applied in another order, or off by one at the border of top-p."""
    p = probabilities(torch.tensor(FOUR).log(), seen, sampling(**dials))
    assert p.tolist() == pytest.approx(expected, abs=TOLERANCE["sampling_vs_hand"])


def test_penalty_divides_positive_logits() -> None:
    """A penalty that divides negative logits too makes seen tokens likelier."""
    p = probabilities(torch.tensor([2.0, 1.0, -1.0]), [0, 2], sampling(repetition_penalty=2.0))
    expected = torch.tensor([1.0, 1.0, -2.0]).softmax(0)
    assert torch.allclose(p, expected, atol=TOLERANCE["sampling_vs_hand"])


def reference(logits: list[float], seen: set[int], s: SamplingConfig) -> list[float]:
    """The same dials, token by token, in plain Python."""
    r = s.repetition_penalty
    logits = [(x / r if x > 0 else x * r) if i in seen else x for i, x in enumerate(logits)]
    weights = {i: math.exp((x - max(logits)) / s.temperature) for i, x in enumerate(logits)}
    ranked = sorted(weights, key=lambda i: -weights[i])
    if s.top_k:
        ranked = ranked[: s.top_k]
    total, mass, kept = sum(weights[i] for i in ranked), 0.0, []
    for i in ranked:
        if mass < s.top_p * total or not kept:
            kept.append(i)
        mass += weights[i]
    kept = [i for i in kept if weights[i] >= s.min_p * weights[kept[0]]]
    total = sum(weights[i] for i in kept)
    return [weights[i] / total if i in kept else 0.0 for i in range(len(logits))]


def test_equals_the_plain_reference() -> None:
    """All dials together, on distributions nobody chose."""
    draw = random.Random(7)
    for _ in range(200):
        logits = [draw.gauss(0, 3) for _ in range(12)]
        seen = set(draw.sample(range(12), 4))
        s = sampling(
            temperature=draw.uniform(0.2, 2),
            top_k=draw.randrange(0, 12),
            top_p=draw.uniform(0.1, 1),
            min_p=draw.choice([0.0, 0.05, 0.5]),
            repetition_penalty=draw.choice([1.0, 1.3, 0.8]),
        )
        p = probabilities(torch.tensor(logits), seen, s)
        expected = reference(logits, seen, s)
        assert p.tolist() == pytest.approx(expected, abs=TOLERANCE["sampling_vs_hand"]), (logits, seen, s)


def test_greedy_takes_the_smallest_id_among_equals() -> None:
    """A tie that is broken by the machine."""
    assert Sampler(sampling(temperature=0.0)).choose(torch.tensor([0.0, 3.0, 3.0]), ()) == 1


@pytest.mark.parametrize("one_stream", [True, False])
def test_draws_follow_the_distribution(one_stream: bool) -> None:
    """A generator that is seeded anew at each token, or seeds whose first draws are alike."""
    n, logits = 4000, torch.tensor(FOUR).log()
    one = Sampler(sampling())
    counts = [0] * 4
    for seed in range(n):
        sampler = one if one_stream else Sampler(sampling(seed=seed))
        counts[sampler.choose(logits, ())] += 1
    chi_square = sum((count - n * p) ** 2 / (n * p) for count, p in zip(counts, FOUR, strict=True))
    assert chi_square < CHI_SQUARE_3_DF_P_001, counts


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    """A diverged model would give token 0 for ever."""
    with pytest.raises(FloatingPointError, match="not finite"):
        Sampler(sampling(temperature=0.0)).choose(torch.tensor([1.0, bad]), ())


@pytest.mark.parametrize(
    ("dial", "value", "message"),
    [
        ("max_tokens", 0, "max_tokens: at least 1 is needed, got 0"),
        ("temperature", -1.0, r"temperature: 0 \(greedy\) or 0.001..100.0 is needed, got -1.0"),
        ("temperature", 1e-310, "temperature: "),  # logits / 1e-310 is NaN
        ("temperature", math.nan, "temperature: "),
        ("top_k", -1, "top_k: "),
        ("top_p", 0.0, "top_p: "),
        ("top_p", math.nan, "top_p: "),
        ("min_p", 1.1, "min_p: "),
        ("repetition_penalty", 0.0, "repetition_penalty: "),
        ("repetition_penalty", 1e-300, "repetition_penalty: "),
        ("repetition_penalty", math.inf, "repetition_penalty: "),
        ("seed", 2**63, "seed: "),  # torch's generator raises an error of its own
    ],
)
def test_dials_out_of_range_are_refused(dial: str, value: float, message: str) -> None:
    """A wrong dial that reaches the arithmetic."""
    with pytest.raises(ValueError, match=message):
        sampling(**{dial: value})


def test_many_rows_choose_what_each_chooses_alone() -> None:
    """Guards: a generator, a penalty or a temperature of a neighbour; draws in another order. And the logits
    are left as they were: they become the logprobs."""
    ways: list[dict[str, float]] = [
        {},
        {"temperature": 0.0},
        {"temperature": 0.5},
        {"temperature": 0.0, "repetition_penalty": 3.0},
        {"top_k": 3, "temperature": 0.7},
        {"repetition_penalty": 2.0, "top_p": 0.6},
        {"min_p": 0.2},
    ]
    torch.manual_seed(0)
    together = [Sampler(sampling(seed=i, **way)) for i, way in enumerate(ways)]
    alone = [Sampler(sampling(seed=i, **way)) for i, way in enumerate(ways)]
    for _ in range(20):
        logits = torch.randn(len(ways), 12) * 2
        before = logits.clone()
        seen = [{i, i + 1, int(row.argmax())} for i, row in enumerate(logits)]
        chosen = choose_all(together, logits, seen)
        assert chosen == [a.choose(row, s) for a, row, s in zip(alone, logits, seen, strict=True)]
        assert torch.equal(logits, before)


def test_draw_by_hand() -> None:
    """By hand: of shares 0, 1/4, 0, 3/4, 0 (given times two) the second token has 0 .. 1/4 and the fourth the
    rest, up to the last number below 1; a token without a share is never drawn."""
    p = torch.tensor([0.0, 0.5, 0.0, 1.5, 0.0]).expand(4, -1)
    uniforms = torch.tensor([0.0, 0.2499, 0.25, 1 - 2**-53], dtype=torch.float64)
    assert draw(p, uniforms).tolist() == [1, 1, 3, 3]


def test_the_smallest_nucleus_is_the_likeliest_token() -> None:
    """Guards: a top_p that fp32 rounds to 0, and a nucleus without its first token: NaN for all that run."""
    p = probabilities(torch.tensor([0.5, 2.0, 1.0]), [], sampling(top_p=1e-300))
    assert p.tolist() == [0.0, 1.0, 0.0]
