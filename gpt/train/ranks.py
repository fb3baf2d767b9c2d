"""What several ranks change in a run: which dials are refused, whose samples, and what all must agree on.

Every rank takes the same decisions from the same numbers, to the bit: a rank that stepped, stopped or saved
alone would leave the others waiting. Clocks and signals are a rank's own: one collective a step shares them.
"""

import torch
from torch import Tensor

from gpt.dataset.loader import Batches, RankSlice
from gpt.parallel.process_group import ProcessGroup, rank_seed
from gpt.train.config import TrainConfig


def check_dials(config: TrainConfig, n_ranks: int) -> None:
    """Raise ValueError that names a dial which several ranks cannot have, and what to write."""
    if n_ranks == 1:
        return
    if config.compile:
        raise ValueError(f"compile: {n_ranks} ranks train uncompiled; write false")
    if config.dtype == "fp16":
        raise ValueError(f"dtype: {n_ranks} ranks have no shared loss scale for fp16; write bf16 or fp32")
    if config.optim.name == "muon":
        raise ValueError(f"optim.name: muon needs whole matrices and {n_ranks} ranks have parts; write adamw")
    if config.micro_batch_size % n_ranks:
        raise ValueError(
            f"micro_batch_size: {config.micro_batch_size} samples do not divide among {n_ranks} ranks; "
            f"write {-(-config.micro_batch_size // n_ranks) * n_ranks}"
        )


def own_batches(batches: Batches, group: ProcessGroup) -> Batches:
    """Return a rank's share of every batch."""
    if group.world_size == 1:
        return batches
    return RankSlice(batches, rank=group.rank, world_size=group.world_size)


def begin_step(group: ProcessGroup, seed: int, step: int) -> None:
    """Note the step for messages; seed torch's generators, which dropout draws from."""
    group.step = step
    torch.manual_seed(rank_seed(seed, step, group.rank))


def mean_metrics(group: ProcessGroup, metrics: dict[str, Tensor | float]) -> dict[str, float]:
    """Return the ranks' mean of each metric as numbers; a GPU waits here."""
    values = {key: float(value) for key, value in metrics.items()}
    if group.world_size == 1:
        return values
    row = torch.tensor([*values.values()], dtype=torch.float64, device=group.device)
    return dict(zip(values, group.gather_rows(row).mean(dim=0).tolist(), strict=True))


def agree(group: ProcessGroup, signal: int, is_spent: bool) -> tuple[int, bool]:
    """Return the signal that any rank received, and whether rank 0's budget is spent."""
    if group.world_size == 1:
        return signal, is_spent
    rows = group.gather_rows(torch.tensor([signal, int(is_spent)], device=group.device))  # (W, 2)
    return int(rows[:, 0].max()), bool(rows[0, 1])
