"""Text that a model writes while it is trained: the same prompts and the same draws every time."""

from collections.abc import Callable

import torch
from torch import nn

from gpt.generate.config import SamplingConfig
from gpt.generate.generate_text import generate_text
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.train.config import TrainConfig

TEMPERATURE = 0.8


def text_samples(
    tokenizer: Tokenizer, config: TrainConfig, device: torch.device
) -> Callable[[nn.Module], str]:
    """Return a function model -> one line a prompt of the dials: the prompt and what follows."""
    sampling = SamplingConfig(max_tokens=config.sample_tokens, seed=config.seed, temperature=TEMPERATURE)

    def sample(model: nn.Module) -> str:
        assert isinstance(model, Transformer)
        was_training = model.training
        model.eval()
        lines = []
        for prompt in config.sample_prompts:
            pieces = generate_text(model, tokenizer, tokenizer.encode(prompt), sampling, device=device)
            text = prompt + "".join(piece.text for piece in pieces)
            lines.append(text.replace("\n", "\\n"))
        model.train(was_training)
        return "\n".join(lines)

    return sample
