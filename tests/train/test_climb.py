"""gpt/train/climb: the whole validation text, one budget for all rungs."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gpt.config import load_section
from gpt.ladder.bigram_counts import count_pairs, log_probabilities, pair_loss
from gpt.ladder.config import LadderModelConfig
from gpt.ladder.rungs import make_rung
from gpt.train.climb import LadderConfig, climb, encode_characters, full_loss, table_of
from gpt.train.metrics import JsonlSink
from tests.tolerances import TOLERANCE

SMOKE = Path(__file__).parents[2] / "conf/smoke.yaml"
MODEL = LadderModelConfig(context=8, dim=16, n_heads=4, n_blocks=1)


@pytest.fixture
def config() -> LadderConfig:
    """The smoke profile's ladder, with windows of 8."""
    loaded = load_section(SMOKE, "ladder", LadderConfig)
    train = dataclasses.replace(loaded.train, seq_len=8, steps=4, eval_every=4, checkpoint_every=0)
    return LadderConfig(model=MODEL, train=train)


@pytest.mark.parametrize("length", [9, 17, 24, 30])
def test_full_loss_counts_every_character_once(length: int) -> None:
    """Guards: a tail that is dropped, a window that overlaps. The bigram's loss needs no windows at all."""
    torch.manual_seed(0)
    ids = np.random.default_rng(0).integers(6, size=length)
    bigram = make_rung("bigram", 6, MODEL)
    expected = pair_loss(count_pairs(ids, 6), table_of(bigram))
    assert full_loss(bigram, ids, 8, 2) == pytest.approx(expected, abs=TOLERANCE["bigram_loss_vs_pairs"])


def test_full_loss_gives_a_window_no_more_than_its_context() -> None:
    """Guards: one long pass, which a position table would refuse and an average would flatter."""
    seen: list[tuple[int, ...]] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = make_rung("bigram", 6, MODEL)

        def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(token_ids.shape))
            return self.inner(token_ids)

    full_loss(Spy(), np.zeros(30, dtype=np.int64), 8, 2)
    assert seen == [(2, 8), (1, 8), (1, 5)]


def test_the_stage_keeps_its_figures_apart(config: LadderConfig, tmp_path: Path) -> None:
    """Guards: `bigram_full` over a part of the text, a lucky batch passed off as the loss, a missing rung."""
    text = "to be or not to be, that is the question\n" * 30
    scores, rows = climb(
        text[:900],
        text[900:],
        config,
        sink=JsonlSink(tmp_path / "log.jsonl"),
        device=torch.device("cpu"),
        resume_dir=tmp_path / "resume",
    )
    found = encode_characters(text[:900], text[900:])
    counted = log_probabilities(count_pairs(found.train, found.n_symbols), 1.0)
    assert scores["symbols"] == found.n_symbols == len(set(text))
    assert scores["bigram_full"] == scores["bigram"] < scores["bigram_start"]
    expected = pair_loss(count_pairs(found.val, found.n_symbols), counted)
    assert scores["bigram_counted"] == round(expected, 4)
    assert scores["bigram_luckiest_batch"] < min(scores["bigram_full"], scores["bigram_one_batch"])
    assert {row["rung"] for row in rows} == {"bigram", "mlp", "single_head", "multi_head", "block"}
    assert all(f"{row['rung']}_parameters" in scores for row in rows)


def test_a_context_of_two_minds_is_refused(config: LadderConfig) -> None:
    """Guards: tokens counted with one length and trained with another."""
    with pytest.raises(ValueError, match=r"train\.seq_len: got 16; set it to model\.context, 8"):
        LadderConfig(model=MODEL, train=dataclasses.replace(config.train, seq_len=16))


def test_a_budget_and_a_mask_are_refused(config: LadderConfig) -> None:
    """Guards: rungs of different lengths side by side, each cut where the clock happened to stand."""
    with pytest.raises(ValueError, match=r"train\.max_minutes: rungs cut short compare nothing"):
        LadderConfig(model=MODEL, train=dataclasses.replace(config.train, max_minutes=1.0))
    with pytest.raises(ValueError, match=r"train\.document_mask: rungs see characters"):
        LadderConfig(model=MODEL, train=dataclasses.replace(config.train, document_mask=True))
