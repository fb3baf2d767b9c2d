"""Tiny Shakespeare, characters, and the recipe that reaches nanoGPT's loss on two CPU cores. Not a benchmark.

The data: 1,115,394 characters, 65 symbols, the first 90% for training, as nanoGPT splits it. The loss: mean
nats per character over the last 10% in the 435 windows of 256 that fit, one behind the other (179 characters
are left over), weights as they are after the last step, dropout off.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from torch import nn

from gpt.corpus.registry import fetch
from gpt.model.config import ModelConfig
from gpt.optim.config import OptimConfig
from gpt.train.climb import Characters, encode_characters, full_loss
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


def load_text() -> Characters:
    """Return tiny Shakespeare, cut by position."""
    text = fetch("tinyshakespeare").read_text(encoding="utf-8")
    cut = int(TRAIN_FRACTION * len(text))
    return encode_characters(text[:cut], text[cut:])


def full_validation(token_ids: np.ndarray, seq_len: int) -> Validate:
    """Return a function model -> mean nats per character over the windows of T that fit.

    They do not overlap; the rest behind the last of them, shorter than T, is left out.
    """
    n = (len(token_ids) - 1) // seq_len * seq_len
    fitting = token_ids[: n + 1]

    def validate(model: nn.Module) -> float:
        was_training = model.training
        model.eval()
        loss = full_loss(model, fitting, seq_len, VAL_BATCH)
        model.train(was_training)
        return loss

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
        document_mask=False,
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
    base: Recipe,
    *,
    model: dict | None = None,
    optim: dict | None = None,
    train: dict | None = None,
    zero_residual: bool = True,
) -> Recipe:
    """Return the recipe with some dials set to other values."""
    new_optim = dataclasses.replace(base.train.optim, **(optim or {}))
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, **(model or {})),
        train=dataclasses.replace(base.train, optim=new_optim, **(train or {})),
        zero_residual=zero_residual,
    )
