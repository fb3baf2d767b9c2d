"""gpt/model/kv_cache.py: positions that are taken back leave nothing behind."""

import dataclasses

import pytest
import torch

from gpt.model.config import ModelConfig
from gpt.model.kv_cache import KVCache
from tests.model.every_part import make
from tests.tolerances import TOLERANCE


@torch.no_grad()
def test_rewound_positions_are_as_if_never_read(modern: ModelConfig) -> None:
    """Guards: a shift or a bigram that looks back at a refused token; twice in a row, and over a pass that is
    longer or shorter than what is taken back."""
    dials = {"token_shift": True, "value_residual": True, "bigram_rows": 500, "position": "learned"}
    model = make(dataclasses.replace(modern, **dials))  # type: ignore[arg-type]
    ids = torch.arange(24).view(2, 12)
    wrong = torch.full((2, 5), 99)
    cache = KVCache(model.config, 2, rewind=3)
    pieces = []
    place = 0
    for n_right, n_wrong in ((4, 0), (2, 3), (1, 2), (1, 3), (4, 1)):
        part = ids[:, place : place + n_right]
        out = model(torch.cat((part, wrong[:, :n_wrong]), dim=1), cache)
        cache.rewind(n_wrong)
        pieces.append(out[:, :n_right])
        place += n_right
    assert cache.length == 12
    assert (torch.cat(pieces, dim=1) - model(ids)).abs().max() <= TOLERANCE["logits_cached_vs_uncached"]
    with pytest.raises(AssertionError, match="made to rewind 3, not 4"):
        cache.rewind(4)
