"""gpt/train/loop.py: it learns, resumes bit for bit, and keeps NaN away from the weights."""

import dataclasses
import json
import math
from collections.abc import Mapping
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
from gpt.train.loop import Sample, TrainResult, _set_recompute, train
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
    document_mask=False,
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
        self.texts: dict[str, str] = {}

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.rows.append((step, metrics))

    def log_config(self, config: dict) -> None: ...

    def log_text(self, name: str, text: str) -> None:
        self.texts[name] = text

    def close(self) -> None: ...


def run(
    config: ModelConfig,
    train_config: TrainConfig = CONFIG,
    resume_dir: Path | None = None,
    objective: Objective = next_token,
    sample: Sample | None = None,
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
        sample=sample,
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


def test_no_run_uses_more_than_the_machine_has(modern: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a utilization of 279%, which a peak that was measured on a busy machine gave."""
    monkeypatch.setattr("gpt.train.loop.peak_flops", lambda device: 1.0)
    _, _, sink = run(modern, dataclasses.replace(CONFIG, steps=3))
    shares = [row["mfu"] for _, row in sink.rows if "mfu" in row]
    assert shares
    assert max(shares) == 1.0


class Killed(Exception):
    """Stands for kill -9: no step follows it. Real kills: tests/faults/test_exact_resume.py."""


def killing(moment: int, objective: Objective = next_token) -> Objective:
    """An objective that dies at its n-th call."""
    calls = 0

    def dies(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        nonlocal calls
        calls += 1
        if calls == moment:
            raise Killed
        return objective(model, batch)

    return dies


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
        with pytest.raises(Killed):
            run(config, resume_dir=tmp_path, objective=killing(moment, plain))
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


def poisoned(at: set[int], factor: float = math.nan) -> Objective:
    """An objective whose loss is NaN, or so many times too large, at the given calls."""
    calls = 0

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        nonlocal calls
        calls += 1
        loss, metrics = next_token(model, batch)
        return (loss * factor, {"loss": metrics["loss"] * factor}) if calls in at else (loss, metrics)

    return objective


def test_a_nan_is_skipped_and_never_saved(modern: ModelConfig, tmp_path: Path) -> None:
    """Guards: one bad batch that turns every weight into NaN, for thousands of steps."""
    model, result, _ = run(modern, resume_dir=tmp_path, objective=poisoned({3, 7, 12}))
    assert all(w.isfinite().all() for w in weights(model))
    state = load_resume_state(tmp_path)
    assert state is not None
    assert all(t.isfinite().all() for t in (*state.model.values(), *state.optimizer.values()))
    assert result.history[-1]["val_loss"] < 10
    assert "NaN" not in "".join(p.read_text() for p in tmp_path.rglob("*.json*"))


def test_a_spike_is_skipped_alike_after_a_resume(
    modern: ModelConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards: a bad batch that is applied, unnamed, or judged otherwise by a resumed run. Call 27 is the
    samples 104..107."""
    config = dataclasses.replace(CONFIG, steps=36, checkpoint_every=4, spike_sigma=10.0)
    expected, reference, sink = run(modern, config, objective=poisoned({27}, factor=100.0))
    assert (27, {"skipped_cursor": 104}) in sink.rows
    assert "step 27 skipped, samples 104..107: a spike: loss" in capsys.readouterr().err
    plain, _, _ = run(modern, config)
    assert any(not torch.equal(a, b) for a, b in zip(weights(expected), weights(plain), strict=True))
    with pytest.raises(Killed):  # resumes at step 24: its statistics come from the state
        run(modern, config, resume_dir=tmp_path, objective=killing(26))
    model, result, _ = run(modern, config, resume_dir=tmp_path, objective=poisoned({3}, factor=100.0))
    assert all(torch.equal(a, b) for a, b in zip(weights(expected), weights(model), strict=True))
    assert result.history == reference.history


def test_samples_are_written_and_change_nothing(modern: ModelConfig) -> None:
    """Guards: a sampler that leaves the model in eval mode or draws from training's randomness."""
    config = dataclasses.replace(modern, dropout=0.2)
    plain, _, _ = run(config)

    def sample(model: nn.Module) -> str:
        torch.rand(3)
        return f"training {model.training}"

    sampling = dataclasses.replace(CONFIG, sample_every=5)
    model, _, sink = run(config, sampling, sample=sample)
    assert sink.texts == {f"samples/step-{n:07d}.txt": "training True\n" for n in (5, 10)}
    assert all(torch.equal(a, b) for a, b in zip(weights(plain), weights(model), strict=True))
    with pytest.raises(ValueError, match="sample_every: got 5, but test writes no samples; write 0"):
        run(config, sampling)


def test_recomputing_is_set_and_refused(modern: ModelConfig) -> None:
    """Guards: a dial that does nothing, on a model that can and on one that cannot."""
    dials = dataclasses.replace(CONFIG, steps=2, recompute_blocks=True)
    assert run(modern, dials)[0].recompute_blocks is True
    assert run(modern)[0].recompute_blocks is False
    with pytest.raises(ValueError, match="recompute_blocks: Linear cannot do it; write false"):
        _set_recompute(nn.Linear(1, 1), True)


def test_a_state_of_another_run_is_refused(modern: ModelConfig, tmp_path: Path) -> None:
    """Guards: another batch size or width on an old cursor and old weights. A free dial is no other run."""
    run(modern, resume_dir=tmp_path)
    run(modern, dataclasses.replace(CONFIG, checkpoint_every=5, max_minutes=9.0), resume_dir=tmp_path)
    for config, dials in (
        (modern, dataclasses.replace(CONFIG, micro_batch_size=2)),
        (dataclasses.replace(modern, ffn_dim=48), CONFIG),
    ):
        with pytest.raises(ValueError, match="step 12 was made with other dials or another model"):
            run(config, dials, resume_dir=tmp_path)


def test_every_row_is_in_the_log(modern: ModelConfig, tmp_path: Path) -> None:
    """Guards: a run whose only trace is a tracking server that was down."""
    _, result, _ = run(modern, resume_dir=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(r["step"], r["loss"]) for r in rows] == [(r["step"], r["loss"]) for r in result.history]
    assert "tokens_per_s" in rows[0]


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
