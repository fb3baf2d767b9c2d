"""gpt/train/loop.py on a mixture over several ranks: the numbers of one process, wherever the experts lie."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpt.parallel.config import ParallelConfig
from gpt.parallel.process_group import ProcessGroup
from tests.distributed import Ranks
from tests.tolerances import TOLERANCE
from tests.train.several_ranks import DIALS, ODD, Numbers, run

MIXTURE = replace(ODD, n_experts=4)
ALONE = ProcessGroup(0, 1, 0, torch.device("cpu"))


@pytest.fixture(scope="module")
def two() -> Iterator[Ranks]:
    ranks = Ranks(2)
    yield ranks
    ranks.end()


@pytest.fixture(scope="module")
def alone() -> Numbers:
    return run(ALONE, "zero3", DIALS, MIXTURE)


def assert_equal(got: Numbers, expected: Numbers) -> None:
    for key, values in expected.rows.items():
        assert got.rows[key] == pytest.approx(values, abs=TOLERANCE["zero3_loss_vs_one_process"]), key
    assert set(got.weights) == set(expected.weights)
    for name, weight in expected.weights.items():
        assert got.weights[name].shape == weight.shape
        gap = (got.weights[name] - weight).abs().max()
        assert gap <= TOLERANCE["zero3_weights_vs_one_process"], name


@pytest.mark.parametrize(
    ("engine", "experts"), [("zero3", "across"), ("zero3", "gathered"), ("fsdp2", "gathered")]
)
def test_a_mixture_trains_as_in_one_process(two: Ranks, alone: Numbers, engine: str, experts: str) -> None:
    """Guards: a balance loss of each rank's own tokens, a dial that the loop does not hand on, experts that
    the trained model lacks."""
    assert min(alone.rows["grad_norm"]) > DIALS.optim.max_grad_norm, "nothing was clipped"
    results = two.run(run, engine, DIALS, MIXTURE, None, 0, experts)
    assert_equal(results[0], alone)
    assert results[0].rows == results[1].rows


@pytest.mark.parametrize(("before", "after"), [("across", "gathered"), ("gathered", "across")])
def test_a_run_goes_on_wherever_its_experts_lie(
    two: Ranks, alone: Numbers, tmp_path: Path, before: str, after: str
) -> None:
    """Guards: a resume state that only the same place of the experts can read, or reads at another's."""
    two.run(run, "zero3", DIALS, MIXTURE, tmp_path, 13, before)
    result = two.run(run, "zero3", DIALS, MIXTURE, tmp_path, 0, after)[0]
    assert result.first_step > 0, "it did not resume"
    assert_equal(result, alone)


def test_the_dial_says_what_it_needs() -> None:
    """Guards: experts silently gathered by an engine that cannot do otherwise."""
    with pytest.raises(ValueError, match=r"experts: across needs engine zero3, got fsdp2; write gathered"):
        ParallelConfig(engine="fsdp2", ranks=2, timeout_s=1.0, experts="across")
