"""What the ranks of tests/train run: train() itself, on a tiny model whose sizes divide by nothing."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gpt.dataset.loader import TokenWindows
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.parallel.choose_engine import choose_engine
from gpt.parallel.config import ParallelConfig
from gpt.parallel.process_group import ProcessGroup
from gpt.train.config import TrainConfig
from gpt.train.loop import TrainResult, train
from gpt.train.objective import Batch, mixture_next_token, next_token
from gpt.train.validate import fixed_validation
from tests.train.test_loop import CONFIG, CPU, Sink

VOCAB = 331
ODD = ModelConfig(
    vocab_size=VOCAB, max_seq_len=16, dim=36, n_layers=3, n_heads=3, n_kv_heads=1, ffn_dim=50, qk_norm=True
)
"""Tied; none of its sizes is a multiple of 16, nor of 2 or 4 times it."""
OPTIM = dataclasses.replace(CONFIG.optim, name="adamw", max_grad_norm=0.25)
DIALS = dataclasses.replace(
    CONFIG, steps=10, grad_accumulation=2, eval_every=5, checkpoint_every=4, optim=OPTIM
)
"""Ten steps of two micro batches of four, every one of them clipped."""


def reports(result: TrainResult) -> dict[str, list[float]]:
    """Return the numbers of a run that ranks and engines must share."""
    keys = ("loss", "grad_norm", "val_loss", "lr")
    return {key: [row[key] for row in result.history if key in row] for key in keys}


def run(
    group: ProcessGroup,
    engine: str,
    dials: TrainConfig = DIALS,
    model: ModelConfig = ODD,
    resume_dir: Path | None = None,
    stop_at: int = 0,
    experts: str = "gathered",
) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """Train; return the logged numbers and, on rank 0, the weights. `stop_at` dies at that micro batch."""
    made = Transformer(model)
    init_weights(made, 0)
    tokens = np.random.default_rng(0).integers(0, VOCAB, size=16 * 41)
    windows = TokenWindows(tokens, dials.seq_len, dials.seed)
    plain = mixture_next_token(0.05, 0.0) if model.n_experts else next_token
    calls = 0

    def objective(module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise InterruptedError
        return plain(module, batch)

    try:
        result = train(
            made,
            windows,
            objective,
            dials,
            name="odd",
            validate=fixed_validation(windows, 2, 4, CPU, torch.float32),
            sink=Sink(),
            device=CPU,
            resume_dir=resume_dir,
            engine=choose_engine(
                ParallelConfig(engine=engine, ranks=group.world_size, timeout_s=20.0, experts=experts),  # type: ignore[arg-type]
                group,
            ),
        )
    except InterruptedError:
        return {}, {}
    whole = result.model
    return reports(result), {} if whole is None else {n: p.detach() for n, p in whole.named_parameters()}
