"""gpt/generate/paged_cache.py: rows in blocks, against each row whole and alone."""

import pytest
import torch

from gpt.generate.paged_cache import Chunk, PagedCache, PagedPass, _groups
from tests.generate.every_kind import KINDS, model_of
from tests.tolerances import TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_chunks_in_scattered_blocks_equal_whole_rows(kind: str) -> None:
    """Guards: a chunk that sees its neighbour's past or its own future, blocks read in the pool's order, a
    position, a shift or a pair counted from the pass's start. Three rows in blocks of 4 that lie anyhow,
    read in pieces that end inside blocks and at their ends, a prompt's beside a token's."""
    model = model_of(kind)
    cache = PagedCache(model.config, 12, 4)
    cache.keys.fill_(50.0)  # what an earlier request left behind
    cache.values.fill_(50.0)
    rows = [list(range(11)), [60, 61, 62, 63, 64, 60, 61, 62], [90] * 5]
    tables = [[7, 2, 9], [3, 11], [5, 0]]
    cuts = [[4, 5, 1, 1], [3, 3, 1, 1], [1, 1, 1, 2]]
    whole = [model(torch.tensor([row]))[0] for row in rows]
    starts = [0, 0, 0]
    for sizes in zip(*cuts, strict=True):
        chunks = [
            Chunk(
                token_ids=row[start : start + n],
                start=start,
                last_id=row[start - 1] if start else -1,
                blocks=table,
            )
            for row, start, n, table in zip(rows, starts, sizes, tables, strict=True)
        ]
        view = PagedPass(cache, chunks, model.config.n_heads)
        found = model(view.token_ids, view)[0].split(list(sizes))
        for logits, expected, start, n in zip(found, whole, starts, sizes, strict=True):
            difference = (logits - expected[start : start + n]).abs().max()
            assert difference <= TOLERANCE["logits_cached_vs_uncached"]
        starts = [start + n for start, n in zip(starts, sizes, strict=True)]


def test_groups_are_of_like_rows_and_bounded() -> None:
    """By hand, 1 KiB a position: one query rows of 64 and 80 positions share a call (16 KiB of padding);
    1,000 beside them would pad 1.8 MiB, so it is alone; prompts' chunks of 100 and 110 queries go together,
    one of 200 does not; and 4 MiB are gathered at most, 8 rows of 512."""
    assert list(_groups([1, 1, 1], [80, 1000, 64], 1024)) == [[2, 0], [1]]
    assert list(_groups([100, 200, 110], [112, 208, 112], 1024)) == [[0, 2], [1]]
    assert [len(group) for group in _groups([1] * 20, [512] * 20, 1024)] == [8, 8, 4]
