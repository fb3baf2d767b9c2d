"""gpt/train/loop.py: it learns, resumes bit for bit, and keeps NaN away from the weights."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gpt.checkpoint.resume import load_resume_state
from gpt.dataset.loader import TokenWindows
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.optim.config import OptimConfig
from gpt.train.config import TrainConfig
from gpt.train.loop import TrainResult, train
from gpt.train.objective import Batch, Objective, mixture_next_token, next_token
from gpt.train.validate import fixed_validation

CPU = torch.device("cpu")
TOKENS = np.tile(np.arange(64), 40)
OPTIM = OptimConfig(
    name="muon",
    lr=0.01,
    matrix_lr=0.02,
    beta1=0.9,
    beta2=0.95,
    weight_decay=0.01,
    schedule="wsd",
    warmup_steps=2,
    decay_fraction=0.5,
    min_lr_ratio=0.0,
    max_grad_norm=1.0,
)
CONFIG = TrainConfig(
    seed=1,
    steps=12,
    seq_len=16,
    micro_batch_size=4,
    grad_accumulation=1,
    dtype="fp32",
    compile=False,
    recompute_blocks=False,
    eval_every=6,
    eval_batches=2,
    log_every=1,
    checkpoint_every=3,
    spike_sigma=0.0,
    sample_every=0,
    sample_tokens=4,
    sample_prompts=("the king",),
    max_minutes=0.0,
    max_dollars=0.0,
    dollars_per_hour=0.0,
    balance_loss=0.01,
    z_loss=0.001,
    optim=OPTIM,
)


class Sink:
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.rows.append((step, metrics))

    def log_config(self, config: dict) -> None: ...

    def log_text(self, name: str, text: str) -> None: ...

    def close(self) -> None: ...


def run(
    config: ModelConfig,
    train_config: TrainConfig = CONFIG,
    resume_dir: Path | None = None,
    objective: Objective = next_token,
) -> tuple[nn.Module, TrainResult, Sink]:
    torch.set_num_threads(1)
    model, sink = Transformer(config), Sink()
    init_weights(model, 0)
    windows = TokenWindows(TOKENS, train_config.seq_len, train_config.seed)
    result = train(
        model,
        windows,
        objective,
        train_config,
        name="test",
        validate=fixed_validation(windows, 2, 4, CPU, torch.float32),
        sink=sink,
        device=CPU,
        resume_dir=resume_dir,
        flops_per_token=1.0,
    )
    return model, result, sink


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach() for p in model.parameters()]


def test_learns_and_reports(modern: ModelConfig) -> None:
    """Guards: an optimizer that steps uphill, rows that lack what the report draws."""
    _, result, sink = run(modern, dataclasses.replace(CONFIG, steps=40))
    assert result.val_loss < 0.6 * result.history[0]["loss"]
    assert result.tokens == 40 * 4 * 16
    assert [row["step"] for row in result.history] == list(range(1, 41))
    assert {"loss", "lr", "grad_norm", "tokens_per_s", "mfu"} <= set(sink.rows[0][1])


class Killed(Exception):
    """Stands for kill -9: nothing of the loop runs after it."""


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("experts", [0, 4])
def test_resume_equals_uninterrupted(
    modern: ModelConfig, tmp_path: Path, dropout: float, experts: int
) -> None:
    """Guards: a cursor, a dropout mask or an optimizer state that restarts. Killed at four moments."""
    config = dataclasses.replace(modern, dropout=dropout, n_experts=experts)
    plain = mixture_next_token(0.01, 0.001) if experts else next_token
    expected, reference, _ = run(config, objective=plain)
    for moment in (1, 4, 4, 5):
        calls = 0

        def dies(model: nn.Module, batch: Batch, moment: int = moment) -> tuple[Tensor, dict[str, float]]:
            nonlocal calls
            calls += 1
            if calls == moment:
                raise Killed
            return plain(model, batch)

        with pytest.raises(Killed):
            run(config, resume_dir=tmp_path, objective=dies)
    model, result, sink = run(config, resume_dir=tmp_path, objective=plain)
    assert sink.rows[0][0] > 1, "it did start again from the beginning"
    assert all(torch.equal(a, b) for a, b in zip(weights(expected), weights(model), strict=True))
    assert [row["loss"] for row in result.history] == [row["loss"] for row in reference.history]


def test_accumulation_equals_one_large_batch(modern: ModelConfig) -> None:
    """Guards: accumulated gradients that are summed instead of averaged."""
    large, _, _ = run(modern, dataclasses.replace(CONFIG, steps=2))
    small, _, _ = run(modern, dataclasses.replace(CONFIG, steps=2, micro_batch_size=1, grad_accumulation=4))
    for a, b in zip(weights(large), weights(small), strict=True):
        assert (a - b).abs().max() < 2e-3  # Muon's first update has length 1 whatever the rounding


def poisoned(at: set[int]) -> Objective:
    """An objective whose loss is NaN at the given calls."""
    calls = 0

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        nonlocal calls
        calls += 1
        loss, metrics = next_token(model, batch)
        return (loss * float("nan"), {"loss": float("nan")}) if calls in at else (loss, metrics)

    return objective


def test_a_nan_is_skipped_and_never_saved(modern: ModelConfig, tmp_path: Path) -> None:
    """Guards: one bad batch that turns every weight into NaN, for thousands of steps."""
    model, result, _ = run(modern, resume_dir=tmp_path, objective=poisoned({3, 7, 12}))
    assert all(w.isfinite().all() for w in weights(model))
    state = load_resume_state(tmp_path)
    assert state is not None
    assert all(t.isfinite().all() for t in state.model.values())
    assert result.history[-1]["val_loss"] < 10


def test_three_nans_in_a_row_stop_the_run(modern: ModelConfig) -> None:
    """Guards: a diverged run that burns its whole budget."""
    with pytest.raises(ValueError, match=r"optim\.lr: 3 bad steps in a row \(not finite: loss nan"):
        run(modern, objective=poisoned({4, 5, 6}))


def test_validation_leaves_training_alone(modern: ModelConfig) -> None:
    """Guards: a model left in eval mode, dropout drawn from by validation."""
    config = dataclasses.replace(modern, dropout=0.2)
    often, _, _ = run(config, dataclasses.replace(CONFIG, eval_every=1))
    seldom, _, _ = run(config, dataclasses.replace(CONFIG, eval_every=12))
    assert all(torch.equal(a, b) for a, b in zip(weights(often), weights(seldom), strict=True))


def test_bad_dials_are_refused() -> None:
    """Guards: a schedule that ends inside its warm-up."""
    with pytest.raises(ValueError, match="warmup_steps: 2 exceeds steps 1"):
        dataclasses.replace(CONFIG, steps=1)
    with pytest.raises(ValueError, match="eval_batches: at least 1"):
        dataclasses.replace(CONFIG, eval_batches=0)
