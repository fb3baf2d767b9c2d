"""One pre-norm transformer block: x + attention(norm(x)), then x + feed_forward(norm(x))."""

from torch import Tensor, nn

from gpt.model.attention import Attention
from gpt.model.config import ModelConfig
from gpt.model.dropout import Dropout
from gpt.model.feed_forward import FeedForward
from gpt.model.kv_cache import Cache
from gpt.model.moe import MixtureOfExperts
from gpt.model.norm import add_and_norm, make_norm
from gpt.model.token_shift import TokenShift


class Block(nn.Module):
    """Attention and feed-forward around a residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.ffn_norm = make_norm(config)
        self.feed_forward = MixtureOfExperts(config) if config.n_experts else FeedForward(config)
        self.has_shift = config.token_shift
        if self.has_shift:
            self.attention_shift = TokenShift(config.dim)
            self.ffn_shift = TokenShift(config.dim)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor] | None,
        first_values: Tensor | None = None,
        cache: Cache | None = None,
        document_ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Map x (B, T, C) to (B, T, C) and the first block's values (B, T, G, D), handed on."""
        h = self.attention_input(x, cache, document_ids)  # (B, T, C)
        attended, values = self.attention(h, rope, first_values, cache, document_ids)
        x, h = add_and_norm(self.ffn_norm, x, self.dropout(attended))  # (B, T, C) each
        x = x + self.dropout(self.feed_forward(self._shifted(h, cache, document_ids)))
        return x, values if first_values is None else first_values

    def attention_input(
        self, x: Tensor, cache: Cache | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """Return what attention sees of the residual stream x (B, T, C)."""
        h = self.attention_norm(x)
        if not self.has_shift:
            return h
        previous = None if cache is None else cache.previous(self.layer, 0, h)
        return self.attention_shift(h, previous, document_ids)

    def _shifted(self, h: Tensor, cache: Cache | None, document_ids: Tensor | None) -> Tensor:
        if not self.has_shift:
            return h
        previous = None if cache is None else cache.previous(self.layer, 1, h)
        return self.ffn_shift(h, previous, document_ids)
