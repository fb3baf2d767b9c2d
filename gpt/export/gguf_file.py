"""A model as one GGUF file for llama.cpp: weights, config, tokenizer and chat template.

The `gguf` package, llama.cpp's own, writes the container and rounds floats to its block formats; which
tensor goes where, in which order of rows, is ours. What we quantized ourselves is not rounded again: our
groups are runs of Q4_0 blocks with one scale, so a GPTQ model is carried over code by code.
"""

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gpt.checkpoint.durable_file import fsync_folder
from gpt.checkpoint.gguf import CONTROL as SPECIAL
from gpt.checkpoint.gguf import NAMES, NORMAL, PRE_TOKENIZERS, is_turned, neighbouring_pairs
from gpt.checkpoint.gpt2_weights import FUSED, check_gpt2
from gpt.checkpoint.llama_weights import family_of
from gpt.checkpoint.save_load import model_tensors
from gpt.export.tokenizer_files import chat_template, end_of_turn, tokenizer_json
from gpt.kernels.int4_packing import unpack_int4
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from gpt.quantize.layouts import check_packed_int4
from gpt.quantize.quantized_linear import QuantizedLinear
from gpt.tokenizer.byte_level import to_symbols
from gpt.tokenizer.pretokenize import PATTERNS
from gpt.tokenizer.tokenizer import Tokenizer

Kind = Literal["f32", "f16", "q8_0", "q4_0", "q4_1"]
FILE_TYPES: dict[str, tuple[str, str]] = {
    "f32": ("F32", "ALL_F32"),
    "f16": ("F16", "MOSTLY_F16"),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
    "q4_0": ("Q4_0", "MOSTLY_Q4_0"),
    "q4_1": ("Q4_1", "MOSTLY_Q4_1"),
}
"""Kind -> the package's names of a tensor's type and of the file's."""
BLOCK = 32
"""Weights of one block of Q4_0, Q4_1 and Q8_0."""


def export_gguf(path: Path, model: Transformer, tokenizer: Tokenizer, kind: Kind, *, name: str) -> None:
    """Write the file atomically. Raises ValueError that names what the format cannot hold."""
    import gguf  # only this file and the reader need the package

    config = model.config
    arch = architecture_name(config)
    check_packed_int4(model, "export --to gguf")
    packed = {n: m for n, m in model.named_modules() if isinstance(m, QuantizedLinear)}
    if packed and kind != "q4_0":
        raise ValueError(f"dtype: {kind} of a model packed in 4 bits; write q4_0, which keeps its codes")
    temporary = path.with_name(f".{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(temporary, arch)
    try:
        writer.add_name(name)
        writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[kind][1]])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_config(writer, config)
        _add_tokenizer(writer, tokenizer)
        for their_name, tensor in _floats(model, packed).items():
            _add_tensor(writer, their_name, tensor, kind)
        for our_name, linear in packed.items():
            blocks = q4_0_blocks(our_name, linear, config)
            their_name = NAMES.theirs(f"{our_name}.weight")
            writer.add_tensor(their_name, blocks, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def architecture_name(config: ModelConfig) -> str:
    """Return llama.cpp's name of an architecture; raises ValueError for a dial that none has."""
    if config.position == "learned":
        check_gpt2(config)
        return "gpt2"
    return {"qwen3": "qwen3", "qwen3_moe": "qwen3moe"}.get(family_of(config).model_type, "llama")


def q4_0_blocks(name: str, linear: QuantizedLinear, config: ModelConfig) -> np.ndarray:
    """Return a packed linear as Q4_0, uint8 (out, in/32 * 18): fp16 scale, then 16 bytes of two codes each.

    Byte i of a block holds its weights i (low) and i + 16 (high). Raises ValueError for groups that no
    block fits.
    """
    if linear.group_size % BLOCK:
        raise ValueError(
            f"quantize.group_size: {linear.group_size} is no multiple of Q4_0's blocks of {BLOCK}; "
            f"quantize with a multiple of {BLOCK}"
        )
    assert linear.bias is None, name
    codes, scales = unpack_int4(linear.packed), linear.scales  # (out, in), (out, in/g)
    if is_turned(f"{name}.weight", config):
        codes, scales = (neighbouring_pairs(rows, config.head_dim) for rows in (codes, scales))
    blocks = codes.unflatten(1, (-1, BLOCK))  # (out, in/32, 32)
    low, high = blocks.split(BLOCK // 2, dim=-1)
    scales = scales.repeat_interleave(linear.group_size // BLOCK, dim=1)  # (out, in/32)
    head = scales.contiguous().view(torch.uint8).unflatten(1, (-1, 2))  # (out, in/32, 2)
    return torch.cat((head, low | (high << 4)), dim=-1).flatten(1).numpy()


def _floats(model: Transformer, packed: dict[str, QuantizedLinear]) -> dict[str, Tensor]:
    """Return what is not packed under llama.cpp's names."""
    config = model.config
    tensors = {n: t for n, t in model_tensors(model).items() if n.rpartition(".")[0] not in packed}
    theirs: dict[str, Tensor] = {}
    if config.position == "learned":
        for layer in range(config.n_layers):
            for part in ("weight", "bias"):
                fused = [tensors.pop(f"blocks.{layer}.attention.{name}.{part}") for name in FUSED]
                theirs[f"blk.{layer}.attn_qkv.{part}"] = torch.cat(fused)
        theirs["position_embd.weight"] = tensors.pop("position.weight")
    for name, tensor in tensors.items():
        rows = neighbouring_pairs(tensor, config.head_dim) if is_turned(name, config) else tensor
        theirs[NAMES.theirs(name)] = rows
    return theirs


def _add_tensor(writer: Any, name: str, tensor: Tensor, kind: Kind) -> None:
    """Add a float tensor: matrices in the file's kind, all else and the router in fp32."""
    import gguf

    values = tensor.detach().float().contiguous().numpy()
    stays = tensor.ndim < 2 or "ffn_gate_inp" in name or "position_embd" in name
    if stays or kind == "f32":
        writer.add_tensor(name, values)
        return
    if kind == "q4_0" and name in ("token_embd.weight", "output.weight"):
        kind = "q8_0"  # as llama.cpp's own converter spares the output
    if kind != "f16" and values.shape[-1] % BLOCK:
        raise ValueError(
            f"dtype: {kind} needs rows that {BLOCK} divides, {name} has {values.shape[-1]}: write f16"
        )
    if kind == "f16" and np.abs(values).max() > np.finfo(np.float16).max:
        raise ValueError(f"dtype: {name} holds a weight beyond f16's range; write f32 or q8_0")
    qtype = gguf.GGMLQuantizationType[FILE_TYPES[kind][0]]
    writer.add_tensor(name, gguf.quants.quantize(values, qtype), raw_dtype=qtype)


def _add_config(writer: Any, config: ModelConfig) -> None:
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_seq_len)
    writer.add_embedding_length(config.dim)
    writer.add_block_count(config.n_layers)
    writer.add_feed_forward_length(config.ffn_dim)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    if config.position == "learned":
        writer.add_layer_norm_eps(config.norm_eps)
        return
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    if config.n_experts:
        writer.add_expert_count(config.n_experts)
        writer.add_expert_used_count(config.n_experts_per_token)
        if config.qk_norm:
            writer.add_expert_feed_forward_length(config.ffn_dim)


def _add_tokenizer(writer: Any, tokenizer: Tokenizer) -> None:
    """Add vocabulary, merges and special tokens; raises ValueError for a split that llama.cpp lacks."""
    content = tokenizer_json(tokenizer)
    names = {pattern: name for name, pattern in PATTERNS.items()}
    ours = names.get(tokenizer.pattern, "of another's file")
    pre = next((theirs for theirs, known in PRE_TOKENIZERS.items() if known == ours), None)
    if pre is None:
        raise ValueError(
            f"tokenize.pattern: {ours} cannot be held by GGUF, llama.cpp has no such split; "
            f"train with tokenize.pattern: {' or '.join(PRE_TOKENIZERS.values())}, or export --to hf"
        )
    texts = {i: to_symbols(t) for i, t in zip(tokenizer.ordinary_ids, tokenizer.tokens, strict=True)}
    texts |= {i: name for name, i in tokenizer.special_tokens.items()}
    special = set(tokenizer.special_tokens.values())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([texts[i] for i in range(tokenizer.n_vocab)])
    writer.add_token_types([SPECIAL if i in special else NORMAL for i in range(tokenizer.n_vocab)])
    writer.add_token_merges([" ".join(pair) for pair in content["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.end_of_text)
    turn_end = end_of_turn(tokenizer)
    if turn_end is not None:
        writer.add_eot_token_id(tokenizer.special_tokens[turn_end])
    writer.add_add_bos_token(False)
    template = chat_template(tokenizer)
    if template is not None:
        writer.add_chat_template(template)
