"""Keys and values of the positions already seen. Made and owned by gpt/generate."""

from dataclasses import replace

import torch
from torch import Tensor

from gpt.model.config import ModelConfig


class KVCache:
    """Preallocated keys and values, (L, B, max_seq_len, G, D) each, and the last position of each shift."""

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (
            config.n_layers,
            batch_size,
            config.max_seq_len,
            config.n_kv_heads,
            config.head_dim,
        )
        self.config = config
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0
        """Positions filled; the transformer advances it once a forward pass."""
        self.last_ids: Tensor | None = None
        """The last token id of each sequence, (B,): what a bigram embedding looks back at."""
        n_shifts = 2 * config.n_layers if config.token_shift else 0
        self._shifts = torch.zeros(n_shifts, batch_size, config.dim, device=device, dtype=dtype)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v (B, T, G, D) behind the filled positions; return all, (B, S, G, D)."""
        end = self.length + k.shape[1]
        self.keys[layer, :, self.length : end] = k
        self.values[layer, :, self.length : end] = v
        return self.keys[layer, :, :end].to(k.dtype), self.values[layer, :, :end].to(v.dtype)

    def shift(self, layer: int, site: int, h: Tensor) -> Tensor:
        """Return the position before h (B, T, C) at one of a block's two token shifts; keep h's last."""
        index = 2 * layer + site
        before = self._shifts[index].clone()  # (B, C)
        self._shifts[index] = h[:, -1]
        return before

    def repeat(self, rows: Tensor, max_seq_len: int) -> "KVCache":
        """Return a cache of its own that holds sequences `rows` (N,) of this one, with room for max_seq_len.

        How several texts go on from one beginning that was read once.
        """
        config = replace(self.config, max_seq_len=max_seq_len)
        copy = KVCache(config, len(rows), device=self.keys.device, dtype=self.keys.dtype)
        copy.keys[:, :, : self.length] = self.keys[:, rows, : self.length]
        copy.values[:, :, : self.length] = self.values[:, rows, : self.length]
        copy._shifts = self._shifts[:, rows]
        copy.length = self.length
        copy.last_ids = None if self.last_ids is None else self.last_ids[rows]
        return copy
