"""Checkpoint folders for the enclave's tests, float and packed."""

from pathlib import Path

import pytest
import torch

from gpt.checkpoint.save_load import model_tensors, save_checkpoint
from gpt.kernels.int4_packing import dequantize, pack_int4
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.tokenizer.vocab_file import save_tokenizer

GROUP_SIZE = 16


def random_model(config: ModelConfig) -> Transformer:
    """Return a model whose every tensor, biases and norms too, is away from its initial value."""
    generator = torch.Generator().manual_seed(5)
    model = Transformer(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            base = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(base + 0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def write_checkpoint(
    folder: Path, model: Transformer, tokenizer: Tokenizer, *, is_packed: bool = False
) -> Path:
    """Write the model's folder; packed, the model gets the weights that int4 holds."""
    save_tokenizer(folder.parent / "tokenizer", tokenizer)
    linears = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
    tensors = model_tensors(model)
    generator = torch.Generator().manual_seed(6)
    for name in linears if is_packed else []:
        linear = model.get_submodule(name)
        codes = torch.randint(0, 16, linear.weight.shape, generator=generator, dtype=torch.uint8)
        groups = linear.weight.shape[1] // GROUP_SIZE
        scales = (0.01 + 0.05 * torch.rand(len(codes), groups, generator=generator)).half()
        del tensors[f"{name}.weight"]
        tensors |= {f"{name}.packed": pack_int4(codes), f"{name}.scales": scales}
        linear.weight.data = dequantize(tensors[f"{name}.packed"], scales)
    info = {"method": "gptq", "bits": 4, "group_size": GROUP_SIZE, "linears": linears}
    save_checkpoint(
        folder,
        tensors,
        model.config,
        stage="quantize",
        tokenizer_dir=folder.parent / "tokenizer",
        tokenizer_fingerprint=tokenizer.fingerprint,
        config_fingerprint="test",
        quantization=info if is_packed else None,
    )
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer) -> Path:
    """A packed checkpoint in modern mode."""
    return write_checkpoint(tmp_path / "checkpoint", random_model(modern), tokenizer, is_packed=True)
