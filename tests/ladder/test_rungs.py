"""gpt/ladder: every rung sees what it may and nothing else."""

import math

import pytest
import torch

from gpt.ladder.config import LadderModelConfig
from gpt.ladder.mlp import WINDOW
from gpt.ladder.rungs import RUNGS, make_rung
from tests.tolerances import TOLERANCE

CONFIG = LadderModelConfig(context=16, dim=16, n_heads=4, n_blocks=2)
SEES = {"bigram": 1, "mlp": WINDOW, "single_head": 16, "multi_head": 16, "block": 16}


@pytest.mark.parametrize("rung", RUNGS)
@torch.no_grad()
def test_looks_back_as_far_as_it_may_and_never_ahead(rung: str) -> None:
    """Guards: a rung that sees its target, or less context than the chapter says."""
    torch.manual_seed(0)
    model = make_rung(rung, 20, CONFIG)
    ids = torch.randint(0, 20, (1, 16))
    base = model(ids)
    assert base.shape == (1, 16, 20)
    for position in range(16):
        changed = ids.clone()
        changed[0, position] = (changed[0, position] + 1) % 20
        moved = (model(changed) - base).abs().amax(-1)[0] > 1e-7
        expected = [position <= t < position + SEES[rung] for t in range(16)]
        assert moved.tolist() == expected, position


def test_bigram_starts_above_ln_v() -> None:
    """By hand: an N(0, 1) table costs ln 65 + 1/2 - (e - 1) / 130 = 4.661 on average; zeros would cost 4.174.

    Guards: another start than the chapter explains. Every pair once, 100 tables.
    """
    ids = torch.arange(65)
    losses = []
    for seed in range(100):
        torch.manual_seed(seed)
        logits = make_rung("bigram", 65, CONFIG)(ids[None])[0]  # (65, V)
        losses.append(-logits.log_softmax(dim=-1).mean().item())
    assert math.isclose(sum(losses) / 100, 4.661, abs_tol=TOLERANCE["bigram_start_vs_formula"])
