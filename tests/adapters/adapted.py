"""What the tests of adapters share: a tiny model, dials, and adapters that look as if they had learned."""

import torch
from torch import nn

from gpt.adapters.config import LoraConfig
from gpt.adapters.lora import DEFAULT, lora_tensors
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer

CONFIG = LoraConfig(lora_rank=4, lora_alpha=8.0, targets=("q_proj", "down_proj"), dropout=0.0)
ALL = LoraConfig(
    lora_rank=4,
    lora_alpha=8.0,
    targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    dropout=0.0,
)
IDS = torch.arange(12)[None]


def make(config: ModelConfig) -> Transformer:
    """A model with weights large enough to see every matrix."""
    model = Transformer(config)
    init_weights(model, 0, init_std=0.2)
    return model.eval()


@torch.no_grad()
def learned(model: nn.Module, name: str = DEFAULT, seed: int = 2, std: float = 0.2) -> None:
    """Fill an adapter's B with numbers."""
    generator = torch.Generator().manual_seed(seed)
    for key, tensor in lora_tensors(model, name).items():
        if key.endswith("lora_b"):
            tensor.normal_(std=std, generator=generator)
