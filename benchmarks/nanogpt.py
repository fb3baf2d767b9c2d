"""nanoGPT's model.py, from a folder of the user's, in our shapes. Not a benchmark; its code is not here."""

import importlib.util
from pathlib import Path
from types import ModuleType

from torch import nn

from gpt.model.config import ModelConfig

CLONE = "git clone https://github.com/karpathy/nanoGPT && git -C nanoGPT checkout 3adf61e"


def load_nanogpt(folder: Path) -> ModuleType:
    """Import nanoGPT's model.py; exits with what to type when it is not there."""
    path = folder / "model.py"
    if not path.is_file():
        raise SystemExit(f"--nanogpt: no model.py in {folder}; get it with: {CLONE}")
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nanogpt_model(source: ModuleType, config: ModelConfig) -> nn.Module:
    """Build its model with the sizes, biases and dropout of a config in GPT-2 mode."""
    sizes = {"n_layer": config.n_layers, "n_head": config.n_heads, "n_embd": config.dim}
    sizes |= {"block_size": config.max_seq_len, "vocab_size": config.vocab_size}
    return source.GPT(source.GPTConfig(**sizes, bias=config.bias, dropout=config.dropout))
