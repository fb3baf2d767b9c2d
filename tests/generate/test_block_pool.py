"""gpt/generate/block_pool.py: who holds which block."""

import pytest

from gpt.generate.block_pool import BlockPool, block_digest


def test_a_kept_block_is_shared_and_evicted_oldest_first() -> None:
    """By hand, three blocks: the first two are kept and let go together, so the second goes first when a
    block is needed, and the first is still found; a held one is never given away."""
    pool = BlockPool(3)
    one, two, three = (pool.take() for _ in range(3))
    assert (one, two, three) == (0, 1, 2)
    assert pool.take() is None
    first, second = block_digest(b"", [1, 2]), block_digest(block_digest(b"", [1, 2]), [3, 4])
    pool.keep(0, first)
    pool.keep(1, second)
    assert pool.n_free == 0
    pool.drop([0, 1])
    assert pool.n_free == 2
    assert pool.take() == 1
    assert pool.share(second) is None
    assert pool.share(first) == 0
    assert pool.n_free == 0
    assert pool.share(first) == 0
    pool.drop([0])
    assert pool.n_free == 0
    pool.drop([0])
    assert pool.n_free == 1
    with pytest.raises(AssertionError, match="let go twice"):
        pool.drop([0])


def test_the_same_tokens_are_found_once() -> None:
    """Guards: two requests that computed the same block at once: the later one's replaces the first, which is
    then kept under a digest that no longer leads to it."""
    pool = BlockPool(2)
    digest = block_digest(b"", [1])
    blocks = [pool.take(), pool.take()]
    assert blocks == [0, 1]
    pool.keep(0, digest)
    pool.keep(1, digest)
    pool.drop([1])
    pool.drop([0])
    assert pool.n_free == 2
    assert pool.share(digest) == 0
    assert pool.take() == 1


def test_a_digest_is_of_everything_before() -> None:
    """Guards: a block shared behind another beginning, or tokens cut elsewhere that hash alike."""
    assert block_digest(b"", [1, 2]) != block_digest(block_digest(b"", [0]), [1, 2])
    assert block_digest(b"", [1, 2]) != block_digest(b"", [12])
    assert block_digest(b"", [1, 256]) != block_digest(b"", [257])
    assert block_digest(b"", [1, 2]) == block_digest(b"", (1, 2))
