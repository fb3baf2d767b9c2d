"""gpt/train/guard.py: what is refused, what is counted, and that a resumed guard judges alike."""

import math
import random

import pytest

from gpt.train.guard import MIN_LOSSES, Guard


def test_the_running_statistics_by_hand() -> None:
    """Guards: a mean that never forgets its start. Three losses are weighed alike: 1, 2, 6 have the mean
    3 and the variance (4 + 1 + 9) / 3."""
    guard = Guard(5.0)
    for loss in (1.0, 2.0, 6.0):
        assert guard.judge(loss, 1.0) is None
    assert guard.mean == pytest.approx(3.0)
    assert guard.variance == pytest.approx(14 / 3)


def trained(spike_sigma: float) -> Guard:
    """A guard after 60 losses around 3 with a spread of 0.1."""
    guard, rng = Guard(spike_sigma), random.Random(0)
    for _ in range(60):
        assert guard.judge(rng.gauss(3.0, 0.1), 1.0) is None
    return guard


def test_a_spike_is_refused_and_forgotten() -> None:
    """Guards: a spike that widens the band through which the next one passes; a fall refused as a spike."""
    guard = trained(5.0)
    before = (guard.mean, guard.variance)
    reason = guard.judge(4.0, 1.0)
    assert reason is not None
    assert "sigma above the mean" in reason
    assert (guard.mean, guard.variance) == before
    assert guard.judge(2.0, 1.0) is None
    assert guard.bad_steps == 0
    assert trained(0.0).judge(4.0, 1.0) is None


def test_a_start_is_no_spike() -> None:
    """Guards: the noise of the first losses measured against one or two of them."""
    guard = Guard(3.0)
    for i in range(MIN_LOSSES):
        assert guard.judge(10.0 if i % 2 else 5.0, 1.0) is None


@pytest.mark.parametrize(
    "bad", [(math.nan, 1.0), (math.inf, 1.0), (3.0, math.nan), (3.0, math.inf), (9.0, 1.0)]
)
def test_three_in_a_row_end_the_run(bad: tuple[float, float]) -> None:
    """Guards: a diverged run that burns its whole budget; two bad steps and a good one that count on."""
    guard = trained(5.0)
    for _ in range(2):
        assert guard.judge(*bad) is not None
    assert guard.judge(3.0, 1.0) is None
    for _ in range(2):
        assert guard.judge(*bad) is not None
    with pytest.raises(ValueError, match=r"optim\.lr: 3 bad steps in a row"):
        guard.judge(*bad)


def test_an_fp16_overflow_is_refused_and_not_counted() -> None:
    """Guards: a run ended by its loss scale on the way down from 65,536."""
    guard = trained(5.0)
    for _ in range(10):
        assert "overflowed" in str(guard.judge(3.0, math.inf, may_overflow=True))
    assert guard.bad_steps == 0
    assert "not finite" in str(guard.judge(math.nan, math.inf, may_overflow=True))
    assert guard.bad_steps == 1


def test_a_restored_guard_judges_alike() -> None:
    """Guards: a resumed run that takes a step which the uninterrupted one skipped."""
    guard, rng = trained(4.0), random.Random(1)
    guard.judge(math.nan, 1.0)
    other = Guard(4.0)
    other.load_state(guard.state())
    losses = [5.0 if i % 7 == 3 else rng.gauss(3.0, 0.2) for i in range(40)]
    judged = [guard.judge(x, 1.0) for x in losses]
    assert any(judged)
    assert judged == [other.judge(x, 1.0) for x in losses]
    assert guard.state() == other.state()
