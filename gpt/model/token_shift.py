"""Token shift: every position sees a share of the position before it, channel by channel.

A one-step lookback costs no matmul and spares attention the work of finding the previous token.
Source: Peng et al. 2023 (RWKV), section 3.1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.model.documents import follows_in_document


class TokenShift(nn.Module):
    """x[t] + share * (x[t-1] - x[t]); before the first token stands zero."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.empty(dim))  # (C,)

    def forward(self, x: Tensor, before: Tensor | None = None, document_ids: Tensor | None = None) -> Tensor:
        """Mix x (B, T, C) with its own past; `before` (B, C) is the position ahead of x, if any.

        With document_ids (B, T), zero stands before the first token of every document.
        """
        previous = F.pad(x, (0, 0, 1, -1))  # (B, T, C)
        if before is not None:
            previous = torch.cat((before[:, None].to(x.dtype), x[:, :-1]), dim=1)
        if document_ids is not None:
            previous = previous * follows_in_document(document_ids)[:, :, None]
        return x.lerp(previous, self.share.to(x.dtype))
