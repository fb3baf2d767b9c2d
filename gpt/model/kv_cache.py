"""The positions already seen: what a forward pass asks of them, and the plain cache of equally long rows.

Made and owned by gpt/generate; rows of different length are gpt/generate/paged_cache.py's.
"""

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from gpt.kernels.attention_backends import attention
from gpt.model.config import ModelConfig


class Cache(Protocol):
    """The past of a pass's tokens (B, T). Each method but `end` and `positions` is called once a pass (and
    layer, and site), in the model's order; `advance` is the last."""

    def end(self, n_tokens: int) -> int:
        """Return the longest row's length with n_tokens more."""

    def positions(self, n_tokens: int) -> Tensor:
        """Return where the pass's tokens stand in their sequences, int64 (T,)."""

    def previous_ids(self, token_ids: Tensor) -> Tensor:
        """Return the token before each of token_ids (B, T); -1 before the first of a sequence."""

    def previous(self, layer: int, site: int, h: Tensor) -> Tensor:
        """Return the position before each of h (B, T, C) at one of a block's two token shifts."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, backend: str) -> Tensor:
        """Keep k and v (B, T, G, D); return what q (B, T, H, D) sees of all, (B, T, H, D)."""

    def advance(self, token_ids: Tensor) -> None:
        """Count token_ids (B, T) as seen."""


class KVCache:
    """Preallocated keys and values, (L, B, max_seq_len, G, D) each, and the last position of each shift.

    With `rewind`, as many of the newest positions can be taken back.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        rewind: int = 0,
    ) -> None:
        shape = (config.n_layers, batch_size, config.max_seq_len, config.n_kv_heads, config.head_dim)
        self.config = config
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0
        """Positions filled; the transformer advances it once a forward pass."""
        n_shifts, window = 2 * config.n_layers if config.token_shift else 0, 1 + rewind
        self.shifts = torch.zeros(n_shifts, batch_size, window, config.dim, device=device, dtype=dtype)
        self.newest_ids = torch.full((batch_size, window), -1, device=device)  # (B, W) the newest last

    def end(self, n_tokens: int) -> int:
        """Return the length with n_tokens more."""
        return self.length + n_tokens

    def positions(self, n_tokens: int) -> Tensor:
        """Return the positions of the next n_tokens, (T,)."""
        return torch.arange(self.length, self.length + n_tokens, device=self.keys.device)

    def previous_ids(self, token_ids: Tensor) -> Tensor:
        """Return the token before each of token_ids (B, T), -1 where there is none."""
        return torch.cat((self.newest_ids[:, -1:], token_ids[:, :-1]), dim=1)

    def previous(self, layer: int, site: int, h: Tensor) -> Tensor:
        """Return the position before each of h (B, T, C); zeros before the first. Keeps h's last."""
        index, window = 2 * layer + site, self.shifts.shape[2]
        past = torch.cat((self.shifts[index].to(h.dtype), h), dim=1)  # (B, W + T, C)
        self.shifts[index] = past[:, -window:]
        return past[:, window - 1 : -1]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, backend: str) -> Tensor:
        """Store k and v (B, T, G, D) behind the filled positions; attend over all, (B, T, H, D)."""
        end = self.length + k.shape[1]
        self.keys[layer, :, self.length : end] = k
        self.values[layer, :, self.length : end] = v
        keys, values = self.keys[layer, :, :end].to(k.dtype), self.values[layer, :, :end].to(v.dtype)
        return attention(q, keys, values, backend=backend)

    def advance(self, token_ids: Tensor) -> None:
        """Count token_ids (B, T) as seen."""
        self.length += token_ids.shape[1]
        self.newest_ids = torch.cat((self.newest_ids, token_ids), dim=1)[:, -self.newest_ids.shape[1] :]

    def rewind(self, n_tokens: int) -> None:
        """Take the newest n_tokens back: drafts that were refused."""
        assert n_tokens < self.newest_ids.shape[1], (
            f"made to rewind {self.newest_ids.shape[1] - 1}, not {n_tokens}"
        )
        assert n_tokens <= self.length
        self.length -= n_tokens
        self.newest_ids = self.newest_ids.roll(n_tokens, dims=1)
        self.shifts = self.shifts.roll(n_tokens, dims=2)

    def repeat(self, rows: Tensor, max_seq_len: int) -> "KVCache":
        """Return a cache of its own that holds sequences `rows` (N,) of this one, with room for max_seq_len.

        How several texts go on from one beginning that was read once.
        """
        config = replace(self.config, max_seq_len=max_seq_len)
        copy = KVCache(config, len(rows), device=self.keys.device, dtype=self.keys.dtype)
        copy.keys[:, :, : self.length] = self.keys[:, rows, : self.length]
        copy.values[:, :, : self.length] = self.values[:, rows, : self.length]
        copy.shifts = self.shifts[:, rows]
        copy.newest_ids = self.newest_ids[rows]
        copy.length = self.length
        return copy
