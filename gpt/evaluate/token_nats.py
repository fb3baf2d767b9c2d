"""Nats that a model spends on chosen tokens of many sequences: what every task here is scored by."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gpt.model.loss import token_losses
from gpt.model.transformer import Transformer
from gpt.tokenizer.special_tokens import IGNORE

Sample = tuple[Sequence[int], Sequence[bool]]
"""Token ids, and for each whether it is scored; the first never is, having nothing before it."""


@torch.inference_mode()
def token_nats(model: Transformer, samples: Sequence[Sample], batch_tokens: int) -> list[Tensor]:
    """Return -ln p of each sample's scored tokens, float32 on the CPU, (n scored,) each.

    Sequences of similar length share a batch, padded on the right, where causal attention does not look;
    logits are made for scored positions alone. Raises ValueError for a sequence beyond max_seq_len.
    """
    device = model.embed.weight.device
    order = sorted(range(len(samples)), key=lambda i: (-len(samples[i][0]), i))
    results: list[Tensor] = [torch.empty(0)] * len(samples)
    while order:
        length = len(samples[order[0]][0]) - 1
        count = max(1, batch_tokens // max(1, length))
        batch, order = order[:count], order[count:]
        token_ids = torch.zeros(len(batch), max(1, length), dtype=torch.long)  # (B, T)
        targets = torch.full_like(token_ids, IGNORE)  # (B, T)
        for row, i in enumerate(batch):
            ids = torch.as_tensor(samples[i][0], dtype=torch.long)
            scored = torch.as_tensor(samples[i][1], dtype=torch.bool)
            token_ids[row, : len(ids) - 1] = ids[:-1]
            targets[row, : len(ids) - 1] = ids[1:].masked_fill(~scored[1:], IGNORE)
        counts = (targets != IGNORE).sum(dim=1).tolist()
        x = model.hidden_states(token_ids.to(device))  # (B, T, C)
        keep = (targets != IGNORE).to(device)  # (B, T)
        logits = model.logits(x[keep])  # (n, V)
        nats = token_losses(logits[None], targets.to(device)[keep][None])[0]  # (n,)
        for i, piece in zip(batch, nats.cpu().split(counts), strict=True):
            results[i] = piece
    return results
