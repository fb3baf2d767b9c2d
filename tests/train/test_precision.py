"""gpt/train/precision.py: fp16 with its loss scale, on the CPU too."""

import dataclasses
from pathlib import Path

import pytest
import torch

from gpt.checkpoint.resume import load_resume_state
from gpt.model.config import ModelConfig
from tests.train.test_loop import CONFIG, Killed, killing, run, weights

FP16 = dataclasses.replace(CONFIG, dtype="fp16")


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_learns_what_fp32_learns(modern: ModelConfig, dtype: str) -> None:
    """Guards: scaled gradients that reach the optimizer or the clipping unscaled: the gradient norm would
    be 65,536 times fp32's. Half precision has 8 (bf16) or 11 (fp16) bits."""
    _, reference, _ = run(modern)
    _, result, _ = run(modern, dataclasses.replace(CONFIG, dtype=dtype))
    assert result.val_loss == pytest.approx(reference.val_loss, rel=0.05)
    assert result.history[0]["grad_norm"] == pytest.approx(reference.history[0]["grad_norm"], rel=0.05)


@pytest.fixture
def high_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with a loss scale of 2**20, which overflows until it has come down."""
    scaler = torch.amp.GradScaler

    def high(device: str, enabled: bool) -> torch.amp.GradScaler:
        return scaler(device, init_scale=2.0**20, enabled=enabled)

    monkeypatch.setattr(torch.amp, "GradScaler", high)


def test_fp16_resumes_bit_for_bit(modern: ModelConfig, tmp_path: Path, high_scale: None) -> None:
    """Guards: a loss scale that starts again at its first value after a resume, and overflows again."""
    expected, _, _ = run(modern, FP16)
    with pytest.raises(Killed):
        run(modern, FP16, resume_dir=tmp_path, objective=killing(11))
    state = load_resume_state(tmp_path)
    assert state is not None
    assert state.scaler["scale"] < 2.0**20
    model, _, _ = run(modern, FP16, resume_dir=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(weights(expected), weights(model), strict=True))


def test_an_overflow_halves_the_scale_and_goes_on(
    modern: ModelConfig, tmp_path: Path, high_scale: None
) -> None:
    """Guards: fp16's normal beginning, a few overflows in a row, taken for divergence."""
    model, result, sink = run(modern, dataclasses.replace(FP16, steps=30), resume_dir=tmp_path)
    skipped = [row for _, row in sink.rows if "skipped_cursor" in row]
    state = load_resume_state(tmp_path)
    assert state is not None
    assert len(skipped) >= 1
    assert state.scaler["scale"] == 2.0 ** (20 - len(skipped))
    assert all(w.isfinite().all() for w in weights(model))
    assert result.stopped_by == "steps"
