"""Tiny Shakespeare, characters, and the recipe that reaches nanoGPT's loss on two CPU cores. Not a benchmark.

The data: 1,115,394 characters, 65 symbols, the first 90% for training, as nanoGPT splits it. The loss: mean
nats per character over the whole last 10% in windows of T that do not overlap, weights as they are after
the last step, dropout off.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.corpus.registry import fetch
from gpt.model.config import ModelConfig
from gpt.optim.config import OptimConfig
from gpt.train.config import TrainConfig
from gpt.train.validate import Validate

TRAIN_FRACTION = 0.9
VAL_BATCH = 29
"""Windows of one validation batch; 435 = 15 * 29 windows of 256."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """All dials of one run."""

    model: ModelConfig
    train: TrainConfig
    init_std: float = 0.02
    zero_residual: bool = True


def characters(cache_dir: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of the training and the validation characters, numbered in code point order."""
    path = fetch("tinyshakespeare") if cache_dir is None else fetch("tinyshakespeare", cache_dir=cache_dir)
    text = path.read_text(encoding="utf-8")
    ids = {symbol: i for i, symbol in enumerate(sorted(set(text)))}
    tokens = np.array([ids[symbol] for symbol in text], dtype=np.int64)
    n_train = int(TRAIN_FRACTION * len(tokens))
    return tokens[:n_train], tokens[n_train:]


def windows(tokens: np.ndarray, seq_len: int) -> tuple[Tensor, Tensor]:
    """Return inputs and targets (n, T): windows one behind the other from the first token on."""
    n = (len(tokens) - 1) // seq_len
    inputs = torch.from_numpy(tokens[: n * seq_len]).view(n, seq_len)
    return inputs, torch.from_numpy(tokens[1 : n * seq_len + 1]).view(n, seq_len)


def full_validation(tokens: np.ndarray, seq_len: int) -> Validate:
    """Return a function model -> mean nats per character over all windows."""
    inputs, targets = windows(tokens, seq_len)

    @torch.no_grad()
    def validate(model: nn.Module) -> float:
        was_training = model.training
        model.eval()
        total = 0.0
        for x, y in zip(inputs.split(VAL_BATCH), targets.split(VAL_BATCH), strict=True):
            total += F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum").item()
        model.train(was_training)
        return total / targets.numel()

    return validate


def recipe(*, seed: int, steps: int) -> Recipe:
    """Return the recipe for a run of `steps` steps of 16 x 256 = 4,096 characters."""
    model = ModelConfig(
        vocab_size=65,
        max_seq_len=256,
        dim=256,
        n_layers=4,
        n_heads=2,
        n_kv_heads=2,
        ffn_dim=688,
        norm_gain=False,
        activation="swiglu",
        qk_norm=True,
        tie_embeddings=False,
        dropout=0.15,
        logit_softcap=15.0,
        token_shift=True,
        value_residual=True,
        bigram_rows=65 * 65,
    )
    optim = OptimConfig(
        name="muon",
        lr=1.2e-2,
        matrix_lr=0.016,
        beta1=0.9,
        beta2=0.98,
        weight_decay=0.3,
        schedule="wsd",
        warmup_steps=min(20, steps),
        decay_fraction=0.75,
        min_lr_ratio=0.0,
        max_grad_norm=0.0,
    )
    train = TrainConfig(
        seed=seed,
        steps=steps,
        seq_len=256,
        micro_batch_size=16,
        grad_accumulation=1,
        dtype="fp32",
        compile=True,
        recompute_blocks=False,
        eval_every=steps,
        eval_batches=1,
        log_every=50,
        checkpoint_every=0,
        spike_sigma=0.0,
        sample_every=0,
        sample_tokens=0,
        sample_prompts=(),
        max_minutes=0.0,
        max_dollars=0.0,
        dollars_per_hour=0.0,
        balance_loss=0.0,
        z_loss=0.0,
        optim=optim,
    )
    return Recipe(model=model, train=train)


def changed(
    base: Recipe, *, model: dict | None = None, optim: dict | None = None, train: dict | None = None
) -> Recipe:
    """Return the recipe with some dials set to other values."""
    new_optim = dataclasses.replace(base.train.optim, **(optim or {}))
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, **(model or {})),
        train=dataclasses.replace(base.train, optim=new_optim, **(train or {})),
    )
