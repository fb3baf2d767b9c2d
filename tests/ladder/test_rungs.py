"""gpt/ladder: every rung sees what it may and nothing else."""

import math

import pytest
import torch
import torch.nn.functional as F

from gpt.ladder.config import LadderModelConfig
from gpt.ladder.mlp import WINDOW
from gpt.ladder.rungs import RUNGS, make_rung

CONFIG = LadderModelConfig(context=16, dim=16, n_heads=4, n_blocks=2)
SEES = {"bigram": 1, "mlp": WINDOW, "single_head": 16, "multi_head": 16, "block": 16}


@pytest.mark.parametrize("rung", RUNGS)
@torch.no_grad()
def test_looks_back_as_far_as_it_may_and_never_ahead(rung: str) -> None:
    """Guards: a rung that sees its target, or less context than the chapter says."""
    torch.manual_seed(0)
    model = make_rung(rung, 20, CONFIG)
    if rung == "bigram":
        torch.nn.init.normal_(model.table.weight)
    ids = torch.randint(0, 20, (1, 16))
    base = model(ids)
    assert base.shape == (1, 16, 20)
    for position in range(16):
        changed = ids.clone()
        changed[0, position] = (changed[0, position] + 1) % 20
        moved = (model(changed) - base).abs().amax(-1)[0] > 1e-7
        expected = [position <= t < position + SEES[rung] for t in range(16)]
        assert moved.tolist() == expected, position


def test_bigram_starts_at_ln_v() -> None:
    """By hand: zero logits give ln V."""
    logits = make_rung("bigram", 65, CONFIG)(torch.zeros(1, 4, dtype=torch.long))
    loss = F.cross_entropy(logits[0], torch.zeros(4, dtype=torch.long))
    assert math.isclose(loss.item(), math.log(65), rel_tol=1e-6)
