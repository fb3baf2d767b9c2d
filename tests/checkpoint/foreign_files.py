"""Tiny foreign models on disk: GPT-2's files made by hand, GGUF files by the `gguf` package's writer."""

import json
from pathlib import Path
from typing import Any

import gguf
import torch
from torch import Tensor

from gpt.checkpoint.safetensors import write_safetensors
from gpt.tokenizer.byte_level import byte_symbols
from gpt.tokenizer.special_tokens import END_OF_TEXT

WORDS = ["th", "the", "an", "and"]
MERGES = ["t h", "th e", "a n", "an d"]
SPECIAL = [END_OF_TEXT, "<|im_start|>", "<|im_end|>"]
TOKENS = [*SPECIAL, *byte_symbols(), *WORDS]
"""A vocabulary that begins with its special tokens, as SmolLM2's does."""
N_VOCAB = len(TOKENS)

GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 40,
    "n_positions": 16,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 3,
    "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new",
}
LLAMA = {
    "general.architecture": "llama",
    "llama.vocab_size": N_VOCAB,
    "llama.context_length": 32,
    "llama.embedding_length": 32,
    "llama.block_count": 2,
    "llama.feed_forward_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 100000.0,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (N_VOCAB - len(SPECIAL)),
    "tokenizer.ggml.merges": MERGES,
}
MIXTRAL = LLAMA | {"llama.expert_count": 4, "llama.expert_used_count": 2}


def draw(shapes: dict[str, tuple[int, ...]], std: float = 0.3) -> dict[str, Tensor]:
    """Random tensors, wide enough that a wrong rotation or a transposed square shows; gains near 1."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape in sorted(shapes.items()):
        is_gain = name.endswith("norm.weight") or (".ln_" in f".{name}" and name.endswith("weight"))
        tensors[name] = float(is_gain) + std * torch.randn(shape, generator=generator)
    return tensors


def gpt2_tensors() -> dict[str, Tensor]:
    """GPT-2's tensors under the hub's bare names, Conv1D weights (in, out)."""
    c, v, t = GPT2["n_embd"], GPT2["vocab_size"], GPT2["n_positions"]
    shapes: dict[str, Any] = {"wte.weight": (v, c), "wpe.weight": (t, c)}
    linears = {
        "attn.c_attn": (c, 3 * c),
        "attn.c_proj": (c, c),
        "mlp.c_fc": (c, 4 * c),
        "mlp.c_proj": (4 * c, c),
    }
    for layer in range(int(GPT2["n_layer"])):
        for name, shape in linears.items():
            shapes[f"h.{layer}.{name}.weight"], shapes[f"h.{layer}.{name}.bias"] = shape, shape[1:]
        for name in ("ln_1", "ln_2"):
            shapes[f"h.{layer}.{name}.weight"] = shapes[f"h.{layer}.{name}.bias"] = (c,)
    shapes["ln_f.weight"] = shapes["ln_f.bias"] = (c,)
    return draw(shapes)


def save_folder(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    """Write a Hugging Face folder without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def save_byte_tokenizer(folder: Path) -> None:
    """Write vocab.json and merges.txt of the vocabulary above, as GPT-2's folders carry them."""
    (folder / "vocab.json").write_text(
        json.dumps({token: i for i, token in enumerate(TOKENS) if i != 1 and i != 2})
    )
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n")


def gguf_tensors(fields: dict[str, Any], *, tied: bool = True) -> dict[str, Tensor]:
    """A Llama's or Mixtral's tensors under GGUF's names, q and k rows in GGUF's order."""
    c, f, v = 32, 64, N_VOCAB
    shapes: dict[str, Any] = {"token_embd.weight": (v, c), "output_norm.weight": (c,)}
    if not tied:
        shapes["output.weight"] = (v, c)
    for layer in range(fields["llama.block_count"]):
        parts: dict[str, Any] = {"attn_norm": (c,), "ffn_norm": (c,), "attn_q": (c, c), "attn_output": (c, c)}
        parts |= {"attn_k": (c // 2, c), "attn_v": (c // 2, c)}
        if e := fields.get("llama.expert_count"):
            parts |= {"ffn_gate_inp": (e, c), "ffn_gate_exps": (e, f, c), "ffn_up_exps": (e, f, c)}
            parts["ffn_down_exps"] = (e, c, f)
        else:
            parts |= {"ffn_gate": (f, c), "ffn_up": (f, c), "ffn_down": (c, f)}
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in parts.items()}
    return draw(shapes)


def save_gguf(
    path: Path, fields: dict[str, Any], tensors: dict[str, Tensor], *, quantize: bool = False
) -> Path:
    """Write a GGUF file; `quantize` stores matrices as Q8_0 blocks."""
    writer = gguf.GGUFWriter(path, fields["general.architecture"])
    for key, value in fields.items():
        if key == "general.architecture":
            continue
        if isinstance(value, list):
            writer.add_array(key, value)
        else:
            kind = {bool: "bool", int: "uint32", float: "float32", str: "string"}[type(value)]
            getattr(writer, f"add_{kind}")(key, value)
    for name, tensor in tensors.items():
        if quantize and tensor.ndim > 1:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(tensor.numpy(), kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
