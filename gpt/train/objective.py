"""Objectives: (model, batch) -> loss, metrics. The loop knows nothing else of what it trains.

Metrics are tensors on the device: to read one makes a GPU wait, and the loop reads all once a step.
"""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from gpt.model.loss import mean_loss
from gpt.model.moe import router_losses

Batch = tuple[Tensor, Tensor]
Objective = Callable[[nn.Module, Batch], tuple[Tensor, Mapping[str, Tensor | float]]]


def next_token(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor | float]]:
    """Return the mean cross-entropy of the counted targets, nats per token."""
    token_ids, targets = batch
    loss = mean_loss(model(token_ids), targets)
    return loss, {"loss": loss.detach()}


def mixture_next_token(balance_weight: float, z_weight: float) -> Objective:
    """Return next_token with the router losses of a mixture added to what is differentiated."""

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor | float]]:
        loss, metrics = next_token(model, batch)
        balance, z = router_losses(model)
        metrics |= {"balance_loss": balance.detach(), "z_loss": z.detach()}
        return loss + balance_weight * balance + z_weight * z, metrics

    return objective
