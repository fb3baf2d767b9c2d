"""Which document each token of a row belongs to, derived from end-of-text; what must not cross a border.

An end-of-text closes the document before it. Where nothing is there to be closed, at the start of a row
or behind another that closed, it opens one: fine-tuning's payment logs begin with one, and the first word
is learned from it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.tokenizer.special_tokens import IGNORE


def split_documents(token_ids: Tensor, targets: Tensor, end_of_text: int) -> tuple[Tensor, Tensor]:
    """Return document_ids int64 (B, T), 0 and counting, and the targets (B, T) that remain.

    The target of a closing end-of-text would be another document's first token: it becomes IGNORE.

    >>> split_documents(torch.tensor([[5, 6, 0, 0, 7, 0, 8]]), torch.zeros(1, 7, dtype=torch.long), 0)
    (tensor([[0, 0, 0, 1, 1, 1, 2]]), tensor([[   0,    0, -100,    0,    0, -100,    0]]))
    """
    is_end = token_ids == end_of_text  # (B, T)
    place = torch.arange(token_ids.shape[1], device=token_ids.device).expand_as(token_ids)  # (B, T)
    last_text = place.masked_fill(is_end, -1).cummax(dim=1).values  # (B, T) -1 before a row's first text
    # in a run of them, closing and opening take turns; behind text the first closes
    is_odd_in_run = (place - last_text) % 2 == 1
    closes = is_end & (is_odd_in_run == (last_text >= 0))
    return F.pad(closes, (1, -1)).cumsum(dim=1), targets.masked_fill(closes, IGNORE)


def follows_in_document(document_ids: Tensor) -> Tensor:
    """Return where a token has one of its own document before it, bool (B, T)."""
    return F.pad(document_ids[:, 1:] == document_ids[:, :-1], (1, 0))


def positions_in_documents(document_ids: Tensor) -> Tensor:
    """Return each token's distance from the start of its document, int64 (B, T)."""
    place = torch.arange(document_ids.shape[1], device=document_ids.device).expand_as(document_ids)
    return place - place.masked_fill(follows_in_document(document_ids), 0).cummax(dim=1).values
