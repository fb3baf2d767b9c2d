"""The transformer: token ids in, logits out. Reads top to bottom; every mode is a dial of ModelConfig.

Not here: the losses (loss.py), sampling (gpt/generate), LoRA and quantization (they act from outside).
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gpt.model.bigram_embedding import BigramEmbedding
from gpt.model.block import Block
from gpt.model.config import ModelConfig
from gpt.model.documents import positions_in_documents
from gpt.model.dropout import Dropout
from gpt.model.kv_cache import Cache
from gpt.model.loss import head_loss
from gpt.model.norm import make_norm
from gpt.model.rope import rope_table


class Decoder(Protocol):
    """What takes tokens through all blocks faster than they do themselves; given to a model from outside."""

    def takes(self, x: Tensor, cache: Cache) -> bool:
        """Whether it does so for x (B, T, C) behind this cache."""

    def step(self, x: Tensor, cache: Cache, rope: tuple[Tensor, Tensor] | None) -> Tensor:
        """Return what leaves the last block, (B, T, C); the cache keeps keys and values."""


class Transformer(nn.Module):
    """A decoder-only transformer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        if config.position == "learned":
            self.position = nn.Embedding(config.max_seq_len, config.dim)
        if config.bigram_rows:
            self.bigram = BigramEmbedding(config.vocab_size, config.dim, config.bigram_rows)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.final_norm = make_norm(config)
        self.lm_head = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed.weight
        cos, sin = rope_table(config.max_seq_len, config.head_dim, config.rope_theta)
        self.register_buffer("rope_cos", cos, persistent=False)  # (max_seq_len, D/2)
        self.register_buffer("rope_sin", sin, persistent=False)
        self.recompute_blocks = False
        """Gradient checkpointing: keep only the blocks' inputs, compute the rest again on the way back."""
        self.decoder: Decoder | None = None

    def forward(
        self,
        token_ids: Tensor,
        cache: Cache | None = None,
        document_ids: Tensor | None = None,
        targets: Tensor | None = None,
        way: str = "chunked",
    ) -> Tensor:
        """Return logits (B, T, V) of token_ids (B, T); with a cache, they follow what it holds.

        With document_ids (B, T), each document's logits are those of the document alone. With targets
        (B, T) the result is their mean loss instead, and no logits stand whole: loss.head_loss in the given
        way. It is a forward pass so that compiled and sharded models do it too. Raises ValueError when the
        sequence is longer than max_seq_len.
        """
        x = self.hidden_states(token_ids, cache, document_ids)  # (B, T, C)
        if targets is not None:
            return head_loss(x, self.lm_head.weight, targets, softcap=self.config.logit_softcap, way=way)
        return self.logits(x)  # (B, T, V)

    def hidden_states(
        self, token_ids: Tensor, cache: Cache | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """Return the residual stream after the final norm, (B, T, C)."""
        assert cache is None or document_ids is None, "documents and a cached prefix do not mix"
        n = token_ids.shape[1]
        end = n if cache is None else cache.end(n)
        if end > self.config.max_seq_len:
            raise ValueError(f"{end} tokens do not fit max_seq_len {self.config.max_seq_len}")
        x = self.embed_tokens(token_ids, cache, document_ids)  # (B, T, C)
        rope = self.rope(0, n) if cache is None else self.rope_at(cache.positions(n))
        if cache is not None and self.decoder is not None and self.decoder.takes(x, cache):
            x = self.decoder.step(x, cache, rope)  # (B, T, C)
            cache.advance(token_ids)
            return self.final_norm(x)
        first_values = None  # (B, T, G, D) after the first block
        for block in self.blocks:
            if self.recompute_blocks and torch.is_grad_enabled():
                x, first_values = checkpoint(
                    block, x, rope, first_values, None, document_ids, use_reentrant=False
                )
            else:
                x, first_values = block(x, rope, first_values, cache, document_ids)  # (B, T, C)
        if cache is not None:
            cache.advance(token_ids)
        return self.final_norm(x)

    def embed_tokens(
        self, token_ids: Tensor, cache: Cache | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """Return embeddings (B, T, C) of token_ids (B, T) that follow what the cache holds."""
        x = self.embed(token_ids)  # (B, T, C)
        if self.config.position == "learned":
            n = token_ids.shape[1]
            positions = torch.arange(n, device=token_ids.device) if cache is None else cache.positions(n)
            if document_ids is not None:  # rotary positions need no such reset: only differences count
                positions = positions_in_documents(document_ids)  # (B, T)
            x = x + self.position(positions)
        if self.config.bigram_rows:
            previous_ids = None if cache is None else cache.previous_ids(token_ids)  # (B, T)
            x = x + self.bigram(token_ids, previous_ids, document_ids)
        return self.dropout(x)

    def rope(self, start: int, end: int) -> tuple[Tensor, Tensor] | None:
        """Return the rotary tables of positions start..end-1, or None with learned positions."""
        return self.rope_at(slice(start, end))

    def rope_at(self, positions: slice | Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the rotary tables (T, D/2) of positions (T,), or None with learned positions."""
        if self.config.position == "learned":
            return None
        return self.rope_cos[positions], self.rope_sin[positions]  # type: ignore[index]

    def logits(self, x: Tensor) -> Tensor:
        """Project the final residual stream (B, T, C) to logits (B, T, V), softcapped if asked."""
        logits = self.lm_head(x)
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits
