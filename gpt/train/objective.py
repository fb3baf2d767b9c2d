"""Objectives: (model, batch) -> loss, metrics. The loop knows nothing else of what it trains.

Metrics are tensors on the device: to read one makes a GPU wait, and the loop reads all once a step.
"""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn

from gpt.model.documents import split_documents
from gpt.model.loss import mean_loss
from gpt.model.moe import router_losses
from gpt.train.config import TrainConfig

Batch = tuple[Tensor, ...]
"""token_ids and targets (B, T); alignment puts more behind them."""
Objective = Callable[[nn.Module, Batch], tuple[Tensor, Mapping[str, Tensor | float]]]


def language_objective(config: TrainConfig, *, is_mixture: bool, end_of_text: int) -> Objective:
    """Return next-token prediction as the dials want it: within documents, with a mixture's losses."""
    closing = mask_token(config, end_of_text)
    if is_mixture:
        return mixture_next_token(config.balance_loss, config.z_loss, closing)
    return partial(next_token, end_of_text=closing)


def mask_token(config: TrainConfig, end_of_text: int) -> int | None:
    """Return the id that parts documents for a run with the mask, None for one without."""
    return end_of_text if config.document_mask else None


def predict(model: nn.Module, batch: Batch, end_of_text: int | None) -> tuple[Tensor, Tensor]:
    """Return logits (B, T, V) and the targets (B, T) that count; within documents if an id parts them."""
    token_ids, targets = batch
    if end_of_text is None:
        return model(token_ids), targets
    document_ids, targets = split_documents(token_ids, targets, end_of_text)
    return model(token_ids, document_ids=document_ids), targets


def next_token(
    model: nn.Module, batch: Batch, end_of_text: int | None = None
) -> tuple[Tensor, dict[str, Tensor | float]]:
    """Return the mean cross-entropy of the counted targets, nats per token."""
    logits, targets = predict(model, batch, end_of_text)
    loss = mean_loss(logits, targets)
    return loss, {"loss": loss.detach()}


def mixture_next_token(balance_weight: float, z_weight: float, end_of_text: int | None = None) -> Objective:
    """Return next_token with the router losses of a mixture added to what is differentiated."""

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor | float]]:
        loss, metrics = next_token(model, batch, end_of_text)
        balance, z = router_losses(model)
        metrics |= {"balance_loss": balance.detach(), "z_loss": z.detach()}
        return loss + balance_weight * balance + z_weight * z, metrics

    return objective
