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

    def forward(
        self, x: Tensor, previous: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """Mix x (B, T, C) with the positions before; `previous` (B, T, C) has them where x does not.

        With document_ids (B, T), zero stands before the first token of every document.
        """
        if previous is None:
            previous = F.pad(x, (0, 0, 1, -1))  # (B, T, C)
        if document_ids is not None:
            previous = previous * follows_in_document(document_ids)[:, :, None]
        return x.lerp(previous, self.share.to(x.dtype))
