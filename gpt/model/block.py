"""One pre-norm transformer block: x + attention(norm(x)), then x + feed_forward(norm(x))."""

from torch import Tensor, nn

from gpt.model.attention import Attention
from gpt.model.config import ModelConfig
from gpt.model.feed_forward import FeedForward
from gpt.model.kv_cache import KVCache
from gpt.model.moe import MixtureOfExperts
from gpt.model.norm import make_norm


class Block(nn.Module):
    """Attention and feed-forward around a residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.ffn_norm = make_norm(config)
        self.feed_forward = MixtureOfExperts(config) if config.n_experts else FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor] | None, cache: KVCache | None = None) -> Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rope, cache))
        return x + self.dropout(self.feed_forward(self.ffn_norm(x)))
