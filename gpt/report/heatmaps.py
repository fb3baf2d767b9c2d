"""Where a model looks: the attention probabilities of a few heads over one short text."""

from typing import Any

import torch

from gpt.catalog.open_model import OpenModel
from gpt.evaluate.score import evenly
from gpt.kernels.reference_attention import attention_weights
from gpt.model.transformer import Transformer

MAX_TOKENS = 24  # more would be no labels but dust on a phone
DIGITS = 4


def draw_heads(opened: OpenModel, text: str, n_heads: int) -> dict[str, Any]:
    """Return tokens and {layer, head, weights (T, T)} of heads evenly spread over the model's.

    Layers and heads count from 0. A text of more than MAX_TOKENS tokens is cut.
    """
    config = opened.model.config
    ids = opened.tokenizer.encode(text)[: min(MAX_TOKENS, config.max_seq_len)]
    everything = head_weights(opened.model, torch.tensor([ids], device=opened.device))
    places = [(layer, head) for layer in range(config.n_layers) for head in range(config.n_heads)]
    heads = []
    for layer, head in evenly(places, n_heads):
        rows = everything[layer][0, head].cpu().tolist()  # (T, T)
        weights = [[round(weight, DIGITS) for weight in row] for row in rows]
        heads.append({"layer": layer, "head": head, "weights": weights})
    tokens = [opened.tokenizer.decode_bytes([i]).decode("utf-8", "replace") for i in ids]
    return {"model": opened.name, "text": text, "tokens": tokens, "heads": heads}


@torch.no_grad()
def head_weights(model: Transformer, token_ids: torch.Tensor) -> list[torch.Tensor]:
    """Return each layer's attention probabilities (B, H, T, T) on token_ids (B, T)."""
    x = model.embed_tokens(token_ids)  # (B, T, C)
    rope = model.rope(0, token_ids.shape[1])
    weights, first_values = [], None
    for block in model.blocks:
        q, k, _ = block.attention.project(block.attention_input(x), rope)  # type: ignore[operator, union-attr]
        weights.append(attention_weights(q, k))  # (B, H, T, T)
        x, first_values = block(x, rope, first_values)  # (B, T, C)
    return weights
