"""Climb the ladder: every rung trained by the one loop on the same characters, then compared."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from gpt.dataset.loader import TokenWindows
from gpt.ladder.config import LadderModelConfig
from gpt.ladder.rungs import RUNGS, make_rung
from gpt.tokenizer.tokenizer import char_tokenizer
from gpt.train.config import TrainConfig
from gpt.train.loop import train
from gpt.train.metrics import MetricSink
from gpt.train.objective import next_token
from gpt.train.validate import fixed_validation


@dataclass(frozen=True, kw_only=True, slots=True)
class LadderConfig:
    """The section `ladder`."""

    bigram_lr: float
    """The bigram is a table of counts and takes a far larger rate than the rest."""
    model: LadderModelConfig
    train: TrainConfig


def climb(
    train_text: str,
    val_text: str,
    config: LadderConfig,
    *,
    sink: MetricSink,
    device: torch.device,
    resume_dir: Path,
) -> tuple[dict[str, float], list[dict[str, float | str]]]:
    """Return each rung's validation loss in nats per character, and the rows of all curves.

    For the bigram also `bigram_one_batch`, the loss on one batch that tutorials quote, beside
    `bigram_full`, over the whole validation text.
    """
    tokenizer = char_tokenizer([train_text, val_text])
    train_ids = np.asarray(tokenizer.encode(train_text), dtype=np.int64)
    val_ids = np.asarray(tokenizer.encode(val_text), dtype=np.int64)
    context, size = config.model.context, config.train.micro_batch_size
    val = TokenWindows(val_ids, context, seed=0)
    n_full = val.shuffle.n // size

    def validation(n_batches: int) -> float:
        return fixed_validation(val, n_batches, size, device, torch.float32)(model)

    symbols = len(tokenizer.tokens)
    scores: dict[str, float] = {"symbols": symbols, "uniform": round(math.log(symbols), 4)}
    rows: list[dict[str, float | str]] = []
    for rung in RUNGS:
        torch.manual_seed(config.train.seed)
        model = make_rung(rung, tokenizer.n_vocab, config.model).to(device)
        lr = config.bigram_lr if rung == "bigram" else config.train.optim.lr
        result = train(
            model,
            TokenWindows(train_ids, context, config.train.seed),
            next_token,
            replace(config.train, optim=replace(config.train.optim, lr=lr)),
            name=f"ladder {rung}",
            validate=fixed_validation(val, config.train.eval_batches, size, device, torch.float32),
            sink=sink,
            device=device,
            resume_dir=resume_dir / rung,
        )
        rows += [{"rung": rung, **row} for row in result.history]
        scores[rung] = round(validation(n_full), 4)
        scores[f"{rung}_parameters"] = sum(p.numel() for p in model.parameters())
        if rung == "bigram":
            scores |= {"bigram_one_batch": round(validation(1), 4), "bigram_full": scores["bigram"]}
    return scores, rows
