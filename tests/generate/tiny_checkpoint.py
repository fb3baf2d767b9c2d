"""A checkpoint of random weights on disk, for the rooms that open one."""

import dataclasses
from pathlib import Path

import torch

from gpt.checkpoint.save_load import model_tensors, save_checkpoint
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.tokenizer.vocab_file import save_tokenizer


def random_model(config: ModelConfig, seed: int = 0) -> Transformer:
    """Return a model of random weights, wide enough apart that its text is not one token again and again."""
    torch.set_num_threads(1)  # a matrix this small is slower on two
    torch.manual_seed(seed)
    model = Transformer(config)
    for parameter in model.parameters():
        if parameter.ndim >= 2:  # a tensor of experts has three
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def save_tiny(
    folder: Path,
    config: ModelConfig,
    tokenizer: Tokenizer,
    *,
    max_seq_len: int = 64,
    parent_sha256: str | None = None,
    seed: int = 0,
    never_stops: bool = False,
) -> Transformer:
    """Write a checkpoint folder of random weights; return the model.

    `never_stops` gives the special tokens the mean of all logits: greedy decoding never takes one.
    """
    config = dataclasses.replace(config, max_seq_len=max_seq_len)
    model = random_model(config, seed)
    if never_stops:
        n_text = len(tokenizer.tokens)
        with torch.no_grad():
            model.embed.weight[n_text:] = model.embed.weight[:n_text].mean(0)
    tokenizer_dir = folder.parent / ".tokenizer"
    save_tokenizer(tokenizer_dir, tokenizer)
    save_checkpoint(
        folder,
        model_tensors(model),
        config,
        stage=folder.parent.name,
        tokenizer_dir=tokenizer_dir,
        tokenizer_fingerprint=tokenizer.fingerprint,
        config_fingerprint="0" * 16,
        parent_sha256=parent_sha256,
    )
    return model
