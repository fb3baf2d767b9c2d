"""A model in which no part is at a value that hides it. Not a test."""

import torch

from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer


def make(config: ModelConfig) -> Transformer:
    """Weights of 0.2 everywhere, the bigram table and the shares included, so that each one matters."""
    model = Transformer(config)
    init_weights(model, 0, init_std=0.2)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("share", "value_mix", "table.weight")):
                parameter.copy_(torch.rand(parameter.shape, generator=generator))
    return model.eval()
