"""gpt/train/samples.py: the same model writes the same text, one line a prompt."""

import dataclasses

import torch

from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.train.samples import text_samples
from tests.train.test_loop import CONFIG, CPU


def test_one_line_a_prompt_and_the_same_every_time(tokenizer: Tokenizer, modern: ModelConfig) -> None:
    """Guards: samples that differ by their draws, so that a change between steps says nothing; a model
    left in eval mode."""
    config = dataclasses.replace(CONFIG, sample_every=1, sample_prompts=("Shall I", "Mera\nUPI"))
    model = Transformer(dataclasses.replace(modern, vocab_size=tokenizer.n_vocab, dropout=0.5))
    init_weights(model, 0)
    model.train()
    sample = text_samples(tokenizer, config, CPU)
    torch.manual_seed(1)
    first = sample(model)
    torch.manual_seed(2)
    assert sample(model) == first
    assert model.training
    lines = first.split("\n")
    assert len(lines) == 2
    assert lines[0].startswith("Shall I")
    assert lines[1].startswith("Mera\\nUPI")
