"""gpt/train/budget.py: minutes and dollars over all attempts, and what a stopped run leaves."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from gpt.model.config import ModelConfig
from gpt.train import budget
from gpt.train.budget import ACCOUNT, Budget
from gpt.train.objective import Batch, Objective, next_token
from tests.train.test_loop import CONFIG, run, weights

PRICED = dataclasses.replace(CONFIG, dollars_per_hour=3.6)


class Clock:
    """A clock that moves when it is told to: seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: self.now))

    def objective(self, seconds: float) -> Objective:
        """next_token that takes so long."""

        def slow(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor | float]]:
            self.now += seconds
            return next_token(model, batch)

        return slow


def test_the_account_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: attempts that each have the whole budget. 40 s and 30 s at $3.60 an hour are $0.07."""
    clock = Clock(monkeypatch)
    config = dataclasses.replace(PRICED, max_dollars=0.06)
    first = Budget(config, tmp_path)
    clock.now += 40
    assert first.dollars() == pytest.approx(0.04)
    assert not first.is_spent()
    first.write()
    clock.now += 1000  # not written down: a kill loses it, and nobody was there to spend it
    second = Budget(config, tmp_path)
    clock.now += 30
    assert second.spent_s() == pytest.approx(70)
    assert second.is_spent()
    assert not Budget(dataclasses.replace(CONFIG, max_minutes=2.0), tmp_path).is_spent()
    (tmp_path / ACCOUNT).write_text("{")
    with pytest.raises(ValueError, match=r"spent\.json: damaged; delete it"):
        Budget(config, tmp_path)


def test_a_stopped_run_is_finished_and_a_larger_budget_goes_on(
    modern: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards: a schedule that looks at the clock, so that a run in two parts ends elsewhere than one in
    one part; a stopped run that claims all its tokens. A step takes 6 s: 0.45 minutes are 5 steps."""
    clock = Clock(monkeypatch)
    whole, reference, _ = run(modern)
    config = dataclasses.replace(PRICED, max_minutes=0.45)
    _, short, sink = run(modern, config, resume_dir=tmp_path, objective=clock.objective(6.0))
    assert (short.stopped_by, short.steps, short.tokens) == ("budget", 5, 5 * 4 * 16)
    assert short.history[-1]["step"] == 5
    assert short.val_loss == short.history[-1]["val_loss"]
    assert short.elapsed_s == pytest.approx(30)
    assert sink.rows[3][1]["dollars"] == pytest.approx(0.024)
    larger = dataclasses.replace(config, max_minutes=100.0)
    model, result, _ = run(modern, larger, resume_dir=tmp_path, objective=clock.objective(6.0))
    assert (result.stopped_by, result.steps) == ("steps", 12)
    assert result.elapsed_s == pytest.approx(72)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(model), strict=True))
    assert result.history == reference.history


def test_a_price_is_needed_for_a_limit_in_dollars() -> None:
    """Guards: a budget that never ends because an hour costs nothing."""
    with pytest.raises(ValueError, match=r"dollars_per_hour: a price is needed for max_dollars 5\.0"):
        dataclasses.replace(CONFIG, max_dollars=5.0)
    with pytest.raises(ValueError, match="max_minutes: must not be negative"):
        dataclasses.replace(CONFIG, max_minutes=-1.0)
