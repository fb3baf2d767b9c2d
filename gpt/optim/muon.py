"""Muon: momentum, orthogonalized, for matrices (Jordan et al. 2024).

The update U of a matrix (out, in) is the momentum with all singular values pushed towards 1 by five
Newton-Schulz steps, scaled by sqrt(max(1, out / in)). A 3-d parameter is a stack of matrices.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Quintic of the reference: steep at 0, so that five steps suffice; singular values land in 0.7..1.2."""
NEWTON_SCHULZ_STEPS = 5


GRAM_ASPECT = 2
"""Longer over shorter side from which iterating on the Gram matrix alone costs less."""


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return U of a stack (..., out, in): singular values near 1, singular vectors kept."""
    x = matrix / (matrix.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x  # the Gram matrix is the smaller one
    is_long = x.shape[-1] >= GRAM_ASPECT * x.shape[-2]
    # the Gram form squares the condition number, which half precision cannot afford
    x = _by_gram_matrix(x) if is_long and x.dtype == torch.float32 else _by_matrix(x)
    return x.mT if tall else x


def _by_matrix(x: Tensor) -> Tensor:
    """Iterate x <- (a I + b G + c G^2) x with G = x x^T."""
    a, b, c = COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def _by_gram_matrix(x: Tensor) -> Tensor:
    """Do the same with G alone: every factor P = a I + b G + c G^2 commutes with G, so G <- P G P."""
    a, b, c = COEFFICIENTS
    gram = x @ x.mT
    identity = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device)
    product = identity
    for step in range(NEWTON_SCHULZ_STEPS):
        factor = a * identity + b * gram + c * gram @ gram
        product = product @ factor if step else factor
        if step < NEWTON_SCHULZ_STEPS - 1:
            gram = factor @ gram @ factor
    return product @ x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized; decoupled weight decay."""

    def __init__(
        self, params: Iterable[Tensor], lr: float, *, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix once; matrices of one shape are orthogonalized together."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                self._update(group, shape, parameters)

    def _update(self, group: dict, shape: torch.Size, parameters: list[Tensor]) -> None:
        mu, lr = group["momentum"], group["lr"]
        directions = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            assert parameter.grad is not None
            state["momentum"].lerp_(parameter.grad, 1 - mu)
            directions.append(parameter.grad.lerp(state["momentum"], mu))
        updates = orthogonalize(torch.stack(directions))  # (n, ..., out, in)
        scale = max(1.0, shape[-2] / shape[-1]) ** 0.5
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - lr * group["weight_decay"]).add_(update, alpha=-lr * scale)
