"""Validation loss over a fixed set of batches, the same at every call."""

from collections.abc import Callable

import torch
from torch import nn

from gpt.dataset.loader import Batches, RankSlice
from gpt.model.loss import token_losses
from gpt.parallel.process_group import ProcessGroup
from gpt.tokenizer.special_tokens import IGNORE
from gpt.train.config import HeadLoss
from gpt.train.objective import within_documents

Validate = Callable[[nn.Module], float]


def fixed_validation(
    batches: Batches,
    n_batches: int,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    end_of_text: int | None = None,
    head_loss: HeadLoss = "whole",
    group: ProcessGroup | None = None,
) -> Validate:
    """Return a function model -> mean nats per counted token over the first n_batches.

    With end_of_text, within documents, as the run trains: another measure than without. head_loss as the
    run trains: whole logits would be the peak of its memory. Ranks of a group measure their shares of every
    batch and return the mean of all, to the bit.
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
            token_ids, targets, told = within_documents((token_ids, targets), end_of_text)
            n = int((targets != IGNORE).sum())
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                if head_loss == "whole":
                    losses = token_losses(model(token_ids, **told), targets).cpu()  # mps has no float64
                    total += float(losses.sum(dtype=torch.float64))
                elif n:  # the mean of nothing is NaN
                    total += n * float(model(token_ids, **told, targets=targets, way=head_loss))
            count += n
        model.train(was_training)
        if group is not None and group.world_size > 1:
            sums = torch.tensor([total, count], dtype=torch.float64, device=group.device)
            total, count = group.gather_rows(sums).sum(dim=0).tolist()
        return total / count

    return validate
