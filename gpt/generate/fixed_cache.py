"""A cache whose shapes do not depend on how much it holds: what a CUDA graph needs, which replays fixed work.

The length lies on the device, where its owner puts it before a pass; attention goes over `seen` positions,
those that are not filled yet masked.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.model.kv_cache import KVCache


class FixedCache:
    """The keys and values of a KVCache, for passes of one token behind them."""

    def __init__(self, cache: KVCache) -> None:
        device = cache.keys.device
        self.keys, self.values = cache.keys, cache.values  # (L, B, S, G, D)
        self.length = torch.tensor([cache.length], device=device)
        """Positions filled, (1,)."""
        self.seen = cache.keys.shape[2]
        """Positions that attention reads, more than are filled."""
        self._shifts = cache.shifts[:, :, -1:].clone()
        self._ids = cache.newest_ids[:, -1:].clone()
        self._columns = torch.arange(cache.keys.shape[2], device=device)

    def state(self) -> tuple[Tensor, ...]:
        """Return what a pass changes, but for the keys and values of its position, to be put back."""
        return self._shifts.clone(), self._ids.clone()

    def restore(self, state: tuple[Tensor, ...]) -> None:
        """Put back what `state` returned, in place."""
        for mine, saved in zip((self._shifts, self._ids), state, strict=True):
            mine.copy_(saved)

    def end(self, n_tokens: int) -> int:
        """Return a bound on the length with one token more; its owner counts."""
        assert n_tokens == 1, f"one token a pass, not {n_tokens}"
        return self.seen

    def positions(self, n_tokens: int) -> Tensor:
        """Return where the token stands, (1,)."""
        return self.length

    def previous_ids(self, token_ids: Tensor) -> Tensor:
        """Return the token before each of token_ids (B, 1)."""
        return self._ids

    def previous(self, layer: int, site: int, h: Tensor) -> Tensor:
        """Return the position before h (B, 1, C); keeps h."""
        index = 2 * layer + site
        past = self._shifts[index].to(h.dtype, copy=True)
        self._shifts[index].copy_(h)
        return past

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, backend: str) -> Tensor:
        """Store k and v (B, 1, G, D); attend over the filled positions, (B, 1, H, D).

        By PyTorch's SDPA whatever the backend's name: no other one takes a mask of filled positions.
        """
        self.keys[layer].index_copy_(1, self.length, k.to(self.keys.dtype))
        self.values[layer].index_copy_(1, self.length, v.to(self.values.dtype))
        keys, values = (
            whole[layer, :, : self.seen].to(q.dtype).transpose(1, 2) for whole in (self.keys, self.values)
        )  # (B, G, seen, D)
        filled = self._columns[: self.seen] <= self.length  # (seen,)
        out = F.scaled_dot_product_attention(
            q.transpose(1, 2), keys, values, attn_mask=filled[None], enable_gqa=q.shape[2] != k.shape[2]
        )  # (B, H, 1, D)
        return out.transpose(1, 2)

    def advance(self, token_ids: Tensor) -> None:
        """Keep token_ids (B, 1) as the newest; the length is the owner's to set."""
        self._ids.copy_(token_ids)
