"""Objectives: (model, batch) -> loss, metrics. The loop knows nothing else of what it trains."""

from collections.abc import Callable

from torch import Tensor, nn

from gpt.model.loss import mean_loss
from gpt.model.moe import router_losses

Batch = tuple[Tensor, Tensor]
Objective = Callable[[nn.Module, Batch], tuple[Tensor, dict[str, float]]]


def next_token(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Return the mean cross-entropy of the counted targets, nats per token."""
    token_ids, targets = batch
    loss = mean_loss(model(token_ids), targets)
    return loss, {"loss": loss.item()}


def mixture_next_token(balance_weight: float, z_weight: float) -> Objective:
    """Return next_token with the router losses of a mixture added to what is differentiated."""

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        loss, metrics = next_token(model, batch)
        balance, z = router_losses(model)
        metrics |= {"balance_loss": balance.item(), "z_loss": z.item()}
        return loss + balance_weight * balance + z_weight * z, metrics

    return objective
