"""Validation loss over a fixed set of batches, the same at every call."""

from collections.abc import Callable

import torch
from torch import nn

from gpt.dataset.loader import Batches, RankSlice
from gpt.model.loss import token_losses
from gpt.parallel.process_group import ProcessGroup
from gpt.tokenizer.special_tokens import IGNORE
from gpt.train.objective import predict

Validate = Callable[[nn.Module], float]


def fixed_validation(
    batches: Batches,
    n_batches: int,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    end_of_text: int | None = None,
    group: ProcessGroup | None = None,
) -> Validate:
    """Return a function model -> mean nats per counted token over the first n_batches.

    With end_of_text, within documents, as the run trains: another measure than without. Ranks of a group
    measure their shares of every batch and return the mean of all, to the bit.
    """
    if group is not None and group.world_size > 1:
        batches = RankSlice(batches, rank=group.rank, world_size=group.world_size)

    @torch.no_grad()
    def validate(model: nn.Module) -> float:
        was_training = model.training
        model.eval()
        total, count = 0.0, 0.0
        for i in range(n_batches):
            token_ids, targets = (t.to(device) for t in batches.batch(i * batch_size, batch_size))
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                logits, targets = predict(model, (token_ids, targets), end_of_text)
            losses = token_losses(logits, targets).cpu()  # mps has no float64
            total += float(losses.sum(dtype=torch.float64))
            count += int((targets != IGNORE).sum())
        model.train(was_training)
        if group is not None and group.world_size > 1:
            sums = torch.tensor([total, count], dtype=torch.float64, device=group.device)
            total, count = group.gather_rows(sums).sum(dim=0).tolist()
        return total / count

    return validate
