"""What the ranks of tests/train run: train() itself, on a tiny model whose sizes divide by nothing."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
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
from gpt.parallel.engine import Engine
from gpt.parallel.process_group import ProcessGroup
from gpt.train.config import TrainConfig
from gpt.train.loop import train
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
    CONFIG, steps=8, grad_accumulation=2, eval_every=4, checkpoint_every=2, optim=OPTIM
)
"""Eight steps of two micro batches of four samples, every one of them clipped."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What a run showed."""

    rows: dict[str, list[float]]
    """loss, grad_norm, val_loss and lr of every logged step: what ranks and engines must share."""
    weights: dict[str, Tensor]
    """Whole, on rank 0."""
    first_step: int
    """Where it began, or went on from."""


class Killed(Exception):
    """Stands for kill -9: no step follows it. Real kills: tests/stages/test_ranks.py."""


def build(model: ModelConfig) -> Transformer:
    made = Transformer(model)
    init_weights(made, 0)
    return made


def engine_of(group: ProcessGroup, name: str, experts: str = "gathered") -> Engine:
    return choose_engine(
        ParallelConfig(engine=name, ranks=group.world_size, timeout_s=20.0, experts=experts),  # type: ignore[arg-type]
        group,
    )


def run(
    group: ProcessGroup,
    engine: str,
    dials: TrainConfig = DIALS,
    model: ModelConfig = ODD,
    resume_dir: Path | None = None,
    stop_at: int = 0,
    experts: str = "gathered",
) -> Numbers:
    """Train; `stop_at` dies at that micro batch, when the saves so far are whole."""
    torch.set_num_threads(1)
    tokens = np.random.default_rng(0).integers(0, VOCAB, size=16 * 41)
    windows, sink, calls = TokenWindows(tokens, dials.seq_len, dials.seed), Sink(), 0
    way = dials.head_loss
    plain = (
        mixture_next_token(0.05, 0.0, None, way) if model.n_experts else partial(next_token, head_loss=way)
    )

    def objective(module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise Killed
        return plain(module, batch)

    try:
        result = train(
            build(model),
            windows,
            objective,
            dials,
            name="odd",
            validate=fixed_validation(windows, 2, 4, CPU, torch.float32, head_loss=way, group=group),
            sink=sink,
            device=CPU,
            resume_dir=resume_dir,
            engine=engine_of(group, engine, experts),
        )
    except Killed:
        return Numbers(rows={}, weights={}, first_step=sink.rows[0][0] - 1)
    keys = ("loss", "grad_norm", "val_loss", "lr")
    weights = {} if result.model is None else dict(result.model.named_parameters())
    return Numbers(
        rows={key: [row[key] for row in result.history if key in row] for key in keys},
        weights={name: weight.detach() for name, weight in weights.items()},
        first_step=sink.rows[0][0] - 1,
    )
