"""Who holds which block of the paged cache: free, held by requests, or kept for the next one that needs it.

Numbers only; the keys and values are paged_cache.py's. A full block is known by the digest of every token up
to its end, so two requests that begin alike can hold the same one. A kept block that nobody holds is free
again as soon as it is needed, the one that was let go longest ago first.

Source of the idea: Kwon et al. 2023 (PagedAttention), sections 4.2 to 4.4.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence


def block_digest(before: bytes, token_ids: Sequence[int]) -> bytes:
    """Return the digest of a block's tokens behind the digest of all before it (empty at the start)."""
    return hashlib.sha256(before + array("q", token_ids).tobytes()).digest()


class BlockPool:
    """Counts the holders of blocks 0..n_blocks-1."""

    def __init__(self, n_blocks: int) -> None:
        self._free = list(range(n_blocks - 1, -1, -1))
        self._holders = [0] * n_blocks
        self._digest_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}
        self._kept: OrderedDict[int, None] = OrderedDict()
        """Blocks with a digest that nobody holds, the one let go longest ago first."""

    @property
    def n_free(self) -> int:
        """Blocks that `take` can give, the kept ones included."""
        return len(self._free) + len(self._kept)

    def take(self) -> int | None:
        """Give a block to one holder, or None when all are held."""
        if self._free:
            block = self._free.pop()
        elif self._kept:
            block, _ = self._kept.popitem(last=False)
            del self._block_of[self._digest_of.pop(block)]
        else:
            return None
        self._holders[block] = 1
        return block

    def keep(self, block: int, digest: bytes) -> None:
        """Let others find a full block by its digest; of two with the same tokens the first is found."""
        assert self._holders[block], block
        if digest not in self._block_of:
            self._block_of[digest], self._digest_of[block] = block, digest

    def share(self, digest: bytes) -> int | None:
        """Give the block of this digest to one more holder, or None when there is none."""
        block = self._block_of.get(digest)
        if block is not None:
            self._holders[block] += 1
            self._kept.pop(block, None)
        return block

    def drop(self, blocks: Sequence[int]) -> None:
        """Let one holder's blocks go; the last first, so that a beginning outlives what follows it."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            assert self._holders[block] >= 0, f"block {block} was let go twice"
            if self._holders[block]:
                continue
            if block in self._digest_of:
                self._kept[block] = None
            else:
                self._free.append(block)
