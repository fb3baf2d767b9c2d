"""gpt/optim against torch.optim: fifty steps on the same gradients end at the same weights."""

import pytest
import torch

from benchmarks.optimizer_against_torch import OPTIM, STEPS, compare, rate
from gpt.optim.schedule import lr_ratio
from tests.tolerances import TOLERANCE


@pytest.mark.parametrize(
    ("name", "exact", "tolerance"),
    [
        ("adamw", False, "adamw_50_steps_vs_torch"),
        ("muon", True, "muon_50_steps_vs_torch_fp32"),
        ("muon", False, "muon_50_steps_vs_torch_bf16"),
    ],
)
def test_fifty_steps_end_at_torchs_weights(name: str, exact: bool, tolerance: str) -> None:
    """Guards: a group with the wrong decay, a schedule off by one, momentum of another form, a clip too late.

    Some steps are clipped and some are not, so that both paths are compared.
    """
    torch.manual_seed(0)
    result = compare(name, exact=exact)
    assert result["max_difference"] <= TOLERANCE[tolerance]
    assert result["max_movement"] > 100 * TOLERANCE["muon_50_steps_vs_torch_fp32"]
    assert 0 < result["steps_clipped"] < STEPS


def test_the_schedule_by_hand_is_the_schedule() -> None:
    """Guards: a warm-up or a cosine that ends elsewhere than the formula written beside torch's."""
    for step in range(STEPS):
        assert rate(step) == pytest.approx(lr_ratio(OPTIM, step, STEPS), rel=1e-12)
