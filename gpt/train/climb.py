"""Climb the ladder: every rung trained by the one loop on the same characters, then compared."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gpt.dataset.loader import TokenWindows
from gpt.ladder import bigram_counts
from gpt.ladder.bigram import Bigram
from gpt.ladder.config import LadderModelConfig
from gpt.ladder.rungs import RUNGS, make_rung
from gpt.model.loss import token_losses
from gpt.tokenizer.tokenizer import char_tokenizer
from gpt.train.config import TrainConfig
from gpt.train.loop import TrainResult, train
from gpt.train.metrics import MetricSink
from gpt.train.objective import next_token
from gpt.train.validate import fixed_validation

N_BATCHES = 1000
"""Single batches that the bigram's lucky one is sought among."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LadderConfig:
    """The section `ladder`: one budget and one rate for all rungs."""

    model: LadderModelConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        if self.train.seq_len != self.model.context:
            raise ValueError(
                f"train.seq_len: got {self.train.seq_len}; set it to model.context, {self.model.context}"
            )
        if self.train.document_mask:
            raise ValueError("train.document_mask: rungs see characters, not documents; write false")
        if self.train.head_loss != "whole":
            raise ValueError(
                f"train.head_loss: rungs have heads of their own, got {self.train.head_loss!r}; write whole"
            )
        for name in ("max_minutes", "max_dollars"):
            if getattr(self.train, name):
                raise ValueError(f"train.{name}: rungs cut short compare nothing; write 0 for the ladder")


@dataclass(frozen=True, kw_only=True, slots=True)
class Characters:
    """A text as character ids."""

    train: np.ndarray
    val: np.ndarray
    n_symbols: int
    """V: characters that occur; the ids are 0..V-1 in code point order."""


def encode_characters(train_text: str, val_text: str) -> Characters:
    """Number the characters of both texts."""
    tokenizer = char_tokenizer([train_text, val_text])
    train_ids, val_ids = (np.asarray(tokenizer.encode(t), dtype=np.int64) for t in (train_text, val_text))
    return Characters(train=train_ids, val=val_ids, n_symbols=len(tokenizer.tokens))


def train_rung(
    rung: str,
    text: Characters,
    config: LadderConfig,
    *,
    sink: MetricSink,
    device: torch.device,
    resume_dir: Path | None = None,
) -> tuple[nn.Module, TrainResult]:
    """Train a rung by name from its seed."""
    torch.manual_seed(config.train.seed)
    model = make_rung(rung, text.n_symbols, config.model).to(device)
    size, context = config.train.micro_batch_size, config.model.context
    val = TokenWindows(text.val, context, seed=0)
    result = train(
        model,
        TokenWindows(text.train, context, config.train.seed),
        next_token,
        config.train,
        name=f"ladder {rung}",
        validate=fixed_validation(val, config.train.eval_batches, size, device, torch.float32),
        sink=sink,
        device=device,
        resume_dir=resume_dir,
    )
    return model, result


@torch.no_grad()
def full_loss(model: nn.Module, token_ids: np.ndarray, context: int, batch_size: int) -> float:
    """Return the mean nats per character over windows of `context` that do not overlap.

    Every character but the first is predicted once; the last window is as short as it must be.
    """
    device = next(model.parameters()).device
    ids = torch.from_numpy(token_ids).to(device)
    n = (len(ids) - 1) // context * context
    x, y = ids[:n].view(-1, context), ids[1 : n + 1].view(-1, context)  # (windows, T)
    parts = [*zip(x.split(batch_size), y.split(batch_size), strict=True)]
    if n < len(ids) - 1:
        parts.append((ids[None, n:-1], ids[None, n + 1 :]))
    total = sum(float(token_losses(model(a), b).sum(dtype=torch.float64)) for a, b in parts)
    return total / (len(ids) - 1)


def table_of(model: nn.Module) -> np.ndarray:
    """Return a bigram's log probabilities, (V, V) float64."""
    assert isinstance(model, Bigram)
    return model.table.weight.detach().double().log_softmax(dim=-1).cpu().numpy()


def climb(
    train_text: str,
    val_text: str,
    config: LadderConfig,
    *,
    sink: MetricSink,
    device: torch.device,
    resume_dir: Path,
) -> tuple[dict[str, float], list[dict[str, float | str]]]:
    """Return each rung's loss over the whole validation text, nats per character, and all curves' rows.

    For the bigram also its loss before training, `bigram_start`; the closed form by counting,
    `bigram_counted`; and the estimates that tutorials quote beside the whole, `bigram_full`: one batch of
    theirs, and the luckiest of N_BATCHES.
    """
    text = encode_characters(train_text, val_text)
    scores: dict[str, float] = {"symbols": text.n_symbols, "uniform": round(math.log(text.n_symbols), 4)}
    rows: list[dict[str, float | str]] = []
    for rung in RUNGS:
        model, result = train_rung(rung, text, config, sink=sink, device=device, resume_dir=resume_dir / rung)
        rows += [{"rung": rung, **row} for row in result.history]
        loss = full_loss(model, text.val, config.model.context, config.train.micro_batch_size)
        scores[rung] = round(loss, 4)
        scores[f"{rung}_parameters"] = sum(p.numel() for p in model.parameters())
        if rung == "bigram":
            scores |= {"bigram_full": scores[rung], **_bigram_scores(text, model, config)}
    return scores, rows


def _bigram_scores(text: Characters, model: nn.Module, config: LadderConfig) -> dict[str, float]:
    """Return the bigram's other figures."""
    torch.manual_seed(config.train.seed)
    fresh = table_of(make_rung("bigram", text.n_symbols, config.model))
    seen, held_out = (bigram_counts.count_pairs(ids, text.n_symbols) for ids in (text.train, text.val))
    batches = bigram_counts.batch_losses(
        text.val, table_of(model), n_batches=N_BATCHES, seed=config.train.seed
    )
    scores = {
        "bigram_start": bigram_counts.pair_loss(held_out, fresh),
        "bigram_counted": bigram_counts.pair_loss(held_out, bigram_counts.log_probabilities(seen, 1.0)),
        "bigram_one_batch": float(batches[0]),
        "bigram_luckiest_batch": float(batches.min()),
    }
    return {name: round(value, 4) for name, value in scores.items()}
