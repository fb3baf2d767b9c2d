"""Next-token cross-entropy, and the router losses beside it."""

import torch.nn.functional as F
from torch import Tensor

from gpt.kernels.chunked_cross_entropy import chunked_cross_entropy
from gpt.tokenizer.special_tokens import IGNORE


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return nats per position (B, T) of logits (B, T, V); 0 where the target is IGNORE."""
    flat = F.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return flat.view_as(targets)


def mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean nats per counted token; raises ValueError when none counts."""
    check_targets(targets)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE)


def head_loss(hidden: Tensor, weight: Tensor, targets: Tensor, *, softcap: float, way: str) -> Tensor:
    """Return mean_loss of the logits hidden (B, T, C) @ weight (V, C).T, which never stand whole.

    `way` is chunked, or fused, which needs Triton. Where no target counts the mean is NaN.
    """
    assert way in ("chunked", "fused"), way
    x, y = hidden.flatten(0, 1), targets.flatten()
    return chunked_cross_entropy(x, weight, y, ignore=IGNORE, softcap=softcap, fused=way == "fused")


def check_targets(targets: Tensor) -> None:
    """Raise ValueError when no target counts.

    A GPU is not made to wait for that check: there the mean is NaN, which the training loop refuses.
    """
    if targets.device.type == "cpu" and not (targets != IGNORE).any():
        raise ValueError("every target of the batch is masked: nothing to learn from it")
