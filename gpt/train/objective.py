"""Objectives: (model, batch) -> loss, metrics. The loop knows nothing else of what it trains.

Metrics are tensors on the device: to read one makes a GPU wait, and the loop reads all once a step.
"""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn

from gpt.model.documents import split_documents
from gpt.model.loss import check_targets, mean_loss
from gpt.model.moe import router_losses
from gpt.train.config import HeadLoss, TrainConfig

Batch = tuple[Tensor, ...]
"""token_ids and targets (B, T); alignment puts more behind them."""
Objective = Callable[[nn.Module, Batch], tuple[Tensor, Mapping[str, Tensor | float]]]


def language_objective(config: TrainConfig, *, is_mixture: bool, end_of_text: int) -> Objective:
    """Return next-token prediction as the dials want it: within documents, with a mixture's losses."""
    closing = mask_token(config, end_of_text)
    if is_mixture:
        return mixture_next_token(config.balance_loss, config.z_loss, closing, config.head_loss)
    return partial(next_token, end_of_text=closing, head_loss=config.head_loss)


def mask_token(config: TrainConfig, end_of_text: int) -> int | None:
    """Return the id that parts documents for a run with the mask, None for one without."""
    return end_of_text if config.document_mask else None


def within_documents(batch: Batch, end_of_text: int | None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return token_ids (B, T), the targets (B, T) that count, and what else the model must be told."""
    token_ids, targets = batch
    if end_of_text is None:
        return token_ids, targets, {}
    document_ids, targets = split_documents(token_ids, targets, end_of_text)
    return token_ids, targets, {"document_ids": document_ids}


def next_token(
    model: nn.Module, batch: Batch, end_of_text: int | None = None, head_loss: HeadLoss = "whole"
) -> tuple[Tensor, dict[str, Tensor | float]]:
    """Return the mean cross-entropy of the counted targets, nats per token.

    Within documents if an id parts them. Unless head_loss is whole, the model must be a Transformer.
    """
    token_ids, targets, told = within_documents(batch, end_of_text)
    if head_loss == "whole":
        loss = mean_loss(model(token_ids, **told), targets)
    else:
        check_targets(targets)
        loss = model(token_ids, **told, targets=targets, way=head_loss)
    return loss, {"loss": loss.detach()}


def mixture_next_token(
    balance_weight: float, z_weight: float, end_of_text: int | None = None, head_loss: HeadLoss = "whole"
) -> Objective:
    """Return next_token with the router losses of a mixture added to what is differentiated."""

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor | float]]:
        loss, metrics = next_token(model, batch, end_of_text, head_loss)
        balance, z = router_losses(model)
        metrics |= {"balance_loss": balance.detach(), "z_loss": z.detach()}
        return loss + balance_weight * balance + z_weight * z, metrics

    return objective
