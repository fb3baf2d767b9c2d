"""A float model as a folder that transformers and vLLM open: weights, config, tokenizer, chat template.

The architecture decides the class: GPT-2 mode is GPT2LMHeadModel; else Llama, Mixtral with experts, Qwen3
with QK-norm, Qwen3-MoE with both. A dial that none of them has is refused by its name.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gpt.checkpoint.atomic import atomic_folder
from gpt.checkpoint.gpt2_weights import gpt2_content, gpt2_tensors
from gpt.checkpoint.llama_weights import hugging_face_config, llama_tensors
from gpt.checkpoint.safetensors import write_safetensors
from gpt.export.tokenizer_files import ending_ids, write_tokenizer
from gpt.model.transformer import Transformer
from gpt.quantize.layouts import packed_linears
from gpt.tokenizer.tokenizer import Tokenizer

Precision = Literal["fp32", "fp16", "bf16"]
DTYPES: dict[str, tuple[torch.dtype, str]] = {
    "fp32": (torch.float32, "float32"),
    "fp16": (torch.float16, "float16"),
    "bf16": (torch.bfloat16, "bfloat16"),
}
"""Ours -> torch's, and its name in config.json."""


def export_hugging_face(folder: Path, model: Transformer, tokenizer: Tokenizer, precision: Precision) -> None:
    """Write the folder atomically. Raises ValueError that names what the format cannot hold."""
    for name, linear in packed_linears(model).items():
        raise ValueError(
            f"model: {name} is packed as {linear.extra_repr()}; export --to gptq takes int4, or export "
            "its float parent"
        )
    is_gpt2 = model.config.position == "learned"
    tensors = gpt2_tensors(model) if is_gpt2 else llama_tensors(model)
    content = gpt2_content(model.config) if is_gpt2 else hugging_face_config(model.config)
    write_folder(folder, tensors, content, tokenizer, precision, model.config.max_seq_len)


def write_folder(
    folder: Path,
    tensors: dict[str, Tensor],
    content: dict[str, Any],
    tokenizer: Tokenizer,
    precision: Precision,
    max_seq_len: int,
    extra_files: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Write weights, cast where they are floats of full precision, config, tokenizer and more JSON files."""
    dtype, name = DTYPES[precision]
    cast = {key: _cast(key, tensor, dtype) for key, tensor in tensors.items()}
    ends = {"bos_token_id": None, "eos_token_id": ending_ids(tokenizer)}
    with atomic_folder(folder) as temporary:
        write_safetensors(temporary / "model.safetensors", cast, metadata={"format": "pt"})
        write_tokenizer(temporary, tokenizer, max_seq_len)
        files = {"config.json": {**content, **ends, "torch_dtype": name}, **(extra_files or {})}
        for file, value in files.items():
            (temporary / file).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast an fp32 tensor; raises ValueError for a weight beyond the type's range."""
    if tensor.dtype != torch.float32:
        return tensor
    cast = tensor.to(dtype)
    if not torch.isfinite(cast).all():
        raise ValueError(f"dtype: {name} holds a weight beyond {dtype}'s range; write bf16 or fp32")
    return cast
