"""Keys and values of many rows of different length, in blocks; one pass over a chunk of fresh tokens of each.

The rows of a pass lie one behind the other, (1, N): no row is padded. Attention alone looks at rows: those of
like length share a call, in groups small enough to be gathered inside a CPU's cache. What a token shift looks
back at is kept beside each block: the position at its end, or the newest so far. So a block that a row
shares brings everything that the row needs to go on behind it.

Attention is PyTorch's scaled_dot_product_attention whatever the model's backend: the others take no mask.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.model.config import ModelConfig

GROUP_BYTES = 2**22
"""Most keys and values that are gathered at a time."""
PADDING_BYTES = 2**18
"""Most of them that padding may cost: about what a call of its own would."""


class PagedCache:
    """Preallocated keys and values, (L, blocks, tokens of a block, G, D) each."""

    def __init__(
        self,
        config: ModelConfig,
        n_blocks: int,
        block_tokens: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (config.n_layers, n_blocks, block_tokens, config.n_kv_heads, config.head_dim)
        self.block_tokens, self.device = block_tokens, torch.device(device)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        n_shifts = 2 * config.n_layers if config.token_shift else 0
        self.shifts = torch.zeros(n_shifts, n_blocks, config.dim, device=device, dtype=dtype)
        self.position_bytes = 2 * config.n_kv_heads * config.head_dim * dtype.itemsize
        """Of one position in one layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """The fresh tokens of one row."""

    token_ids: Sequence[int]
    start: int
    """Positions of the row that are filled already."""
    last_id: int
    """The token before them; -1 at the start."""
    blocks: Sequence[int]
    """The row's blocks, with room for the fresh tokens."""

    @property
    def end(self) -> int:
        """Positions filled after the pass."""
        return self.start + len(self.token_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Rows whose attention is one call: R rows of T queries, the last one repeated where a row has fewer."""

    queries: Tensor
    """Places in the pass, (R * T,)."""
    n_rows: int
    blocks: Tensor
    """Of each row in turn, (R * S / tokens of a block,)."""
    mask: Tensor
    """0 or -inf, (R, 1, query heads of a kv head * T, S)."""

    def attend(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return (R * T, H, D) of q (N, H, D) over a layer's keys and values (blocks, tokens, G, D).

        The heads that share keys are queries of one head, so the keys are read once.
        """
        n_rows, n_heads, (n_kv_heads, d) = self.n_rows, q.shape[1], keys.shape[2:]
        k, v = (
            pool.index_select(0, self.blocks).view(n_rows, -1, n_kv_heads, d).transpose(1, 2).to(q.dtype)
            for pool in (keys, values)
        )  # (R, G, S, D) each
        q = q.index_select(0, self.queries).view(n_rows, -1, n_kv_heads, n_heads // n_kv_heads, d)
        n_queries = q.shape[1]
        q = q.permute(0, 2, 3, 1, 4).reshape(n_rows, n_kv_heads, -1, d)  # (R, G, H/G * T, D)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask.to(q.dtype))
        out = out.view(n_rows, n_heads, n_queries, d)
        return out.transpose(1, 2).reshape(-1, n_heads, d)


class PagedPass:
    """One forward pass over chunks of rows: the model's view of the cache (gpt.model.kv_cache.Cache)."""

    def __init__(self, cache: PagedCache, chunks: Sequence[Chunk], n_heads: int) -> None:
        self.cache, size, device = cache, cache.block_tokens, cache.device
        self._end = max(chunk.end for chunk in chunks)
        counts = torch.tensor([len(chunk.token_ids) for chunk in chunks])  # (R,)
        starts = torch.tensor([chunk.start for chunk in chunks])
        firsts = counts.cumsum(0) - counts  # (R,) where each row begins in the pass
        row = torch.arange(len(chunks)).repeat_interleave(counts)  # (N,)
        positions = torch.arange(len(row)) - (firsts - starts)[row]  # (N,)
        tables = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(chunk.blocks) for chunk in chunks], batch_first=True
        )  # (R, most blocks)
        blocks = tables[row, positions // size]  # (N,) of each fresh token
        self.token_ids = torch.tensor([[i for c in chunks for i in c.token_ids]], device=device)  # (1, N)
        self._positions = positions.to(device)
        self._places = (blocks * size + positions % size).to(device)  # (N,) in the pool
        self._firsts = firsts.to(device)
        self._last_ids = torch.tensor([chunk.last_id for chunk in chunks], device=device)  # (R,)
        self.lasts = (firsts + counts - 1).to(device)
        """Place in the pass of each row's last token, (R,)."""
        at_end = (positions + 1) % size == 0  # (N,)
        at_end[firsts + counts - 1] = True
        self._kept = at_end.nonzero()[:, 0].to(device)
        self._kept_blocks = blocks[at_end].to(device)
        before = torch.arange(len(chunks)), (starts - 1).clamp(min=0) // size
        self._blocks_before = tables[before].to(device)  # (R,)
        self._has_before = (starts > 0).to(device)[:, None]  # (R, 1)
        heads = n_heads // cache.keys.shape[3]
        self._groups = []
        for rows in _groups(chunks, size, cache.position_bytes):
            longest = int(counts[rows].max())
            place = torch.arange(longest).expand(len(rows), -1).minimum(counts[rows, None] - 1)
            queries = (firsts[rows, None] + place).flatten()  # (R * T,)
            n_blocks = -(-max(chunks[i].end for i in rows) // size)
            seen = torch.arange(n_blocks * size) <= positions[queries].view(len(rows), -1, 1)  # (R, T, S)
            mask = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)[:, None]  # (R, 1, T, S)
            self._groups.append(
                _Group(
                    queries=queries.to(device),
                    n_rows=len(rows),
                    blocks=tables[rows, :n_blocks].flatten().to(device),
                    mask=mask.repeat(1, 1, heads, 1).to(device),
                )
            )

    def end(self, n_tokens: int) -> int:
        """Return the longest row's length after the pass."""
        assert n_tokens == len(self._positions)
        return self._end

    def positions(self, n_tokens: int) -> Tensor:
        """Return each token's position in its own row, (N,)."""
        return self._positions

    def previous_ids(self, token_ids: Tensor) -> Tensor:
        """Return the token before each of token_ids (1, N) in its own row, -1 where there is none."""
        previous = token_ids.roll(1, dims=1)
        previous[0, self._firsts] = self._last_ids
        return previous

    def previous(self, layer: int, site: int, h: Tensor) -> Tensor:
        """Return the position before each of h (1, N, C) in its own row; zeros where there is none."""
        shifts = self.cache.shifts[2 * layer + site]  # (blocks, C)
        previous = h.roll(1, dims=1)
        before = torch.where(self._has_before, shifts[self._blocks_before], 0.0)  # (R, C)
        previous[0, self._firsts] = before.to(h.dtype)
        shifts[self._kept_blocks] = h[0, self._kept].to(shifts.dtype)
        return previous

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, backend: str) -> Tensor:
        """Store k and v (1, N, G, D); return what q (1, N, H, D) sees of its own row, (1, N, H, D)."""
        keys, values = self.cache.keys[layer], self.cache.values[layer]  # (blocks, tokens, G, D)
        keys.flatten(0, 1).index_copy_(0, self._places, k[0].to(keys.dtype))
        values.flatten(0, 1).index_copy_(0, self._places, v[0].to(values.dtype))
        out = torch.empty_like(q[0])  # (N, H, D)
        for group in self._groups:
            out[group.queries] = group.attend(q[0], keys, values)
        return out[None]

    def advance(self, token_ids: Tensor) -> None:
        """Do nothing: whoever made the chunks knows how long the rows are."""


def _groups(chunks: Sequence[Chunk], block_tokens: int, position_bytes: int) -> Iterator[list[int]]:
    """Yield rows that attend together: of one number of queries or nearly so, and of like length."""
    order = sorted(range(len(chunks)), key=lambda i: (len(chunks[i].token_ids), chunks[i].end))
    group: list[int] = []
    longest = used = 0
    for i in order:
        n_queries, length = len(chunks[i].token_ids), -(-chunks[i].end // block_tokens) * block_tokens
        if group:
            total = max(longest, length) * (len(group) + 1) * position_bytes
            wasted = total - (used + length) * position_bytes
            is_like = 4 * n_queries <= 5 * len(chunks[group[0]].token_ids)
            if not is_like or wasted > PADDING_BYTES or total > GROUP_BYTES:
                yield group
                group, longest, used = [], 0, 0
        group.append(i)
        longest, used = max(longest, length), used + length
    yield group
