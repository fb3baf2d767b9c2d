"""GPT-2 as Hugging Face keeps it, read into the model's GPT-2 mode, and written out of it.

Its linear layers are Conv1D: weights stand (in, out) and are turned over here; query, key and value are one
layer, cut in three. The file of the hub has bare names and carries the causal mask as buffers, newer files
put `transformer.` in front: both are read without the buffers, the newer form is written. Without lm_head
the output is tied.
"""

import re
from typing import Any

import torch
from torch import Tensor

from gpt.checkpoint.foreign_format import (
    ForeignConfig,
    ForeignTensors,
    NameTable,
    expected_shapes,
    refuse_unheld,
)
from gpt.checkpoint.save_load import model_tensors
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer

NAMES = NameTable(
    outer={"embed": "wte", "position": "wpe", "final_norm": "ln_f"},
    blocks="h",
    inner={
        "attention_norm": "ln_1",
        "attention.o_proj": "attn.c_proj",
        "ffn_norm": "ln_2",
        "feed_forward.up_proj": "mlp.c_fc",
        "feed_forward.down_proj": "mlp.c_proj",
    },
)
BUFFER = re.compile(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)")
FUSED = ("q_proj", "k_proj", "v_proj")
MODE = {"norm": "layernorm", "activation": "gelu", "position": "learned", "bias": True}
"""The dials that make a GPT-2."""
HELD = frozenset(
    {*MODE, "vocab_size", "max_seq_len", "dim", "n_layers", "n_heads", "n_kv_heads", "ffn_dim", "norm_eps"}
    | {"tie_embeddings", "rope_theta", "n_experts_per_token"}  # the last two mean nothing here
)


def gpt2_config(content: dict[str, Any], where: str) -> ModelConfig:
    """Return the architecture that GPT-2's config.json means; refuses what we cannot hold."""
    config = ForeignConfig(content, where)
    config.only("activation_function", "gelu_new", "gelu_pytorch_tanh")
    config.only("scale_attn_weights", True)
    config.only("scale_attn_by_inverse_layer_idx", False)
    config.only("add_cross_attention", False)
    config.only("quantization_config", None)
    dim, n_heads = config.integer("n_embd"), config.integer("n_head")
    return config.architecture(
        vocab_size=config.integer("vocab_size"),
        max_seq_len=config.integer("n_positions"),
        dim=dim,
        n_layers=config.integer("n_layer"),
        n_heads=n_heads,
        n_kv_heads=n_heads,
        ffn_dim=config.integer("n_inner", 4 * dim),
        norm_eps=config.number("layer_norm_epsilon"),
        **MODE,
        tie_embeddings=config.boolean("tie_word_embeddings", True),
    )


def read_gpt2(tensors: dict[str, Tensor], config: ModelConfig, where: str) -> dict[str, Tensor]:
    """Return GPT-2's tensors under our names, fp32; refuses missing, surplus and misshapen ones by name."""
    source = ForeignTensors({n: t for n, t in tensors.items() if not BUFFER.fullmatch(n)}, where)
    prefix = "transformer." if "transformer.wte.weight" in source else ""
    if config.tie_embeddings:
        source.drop_copy("lm_head.weight", f"{prefix}wte.weight")
    ours: dict[str, Tensor] = {}
    for layer in range(config.n_layers):
        ours |= _cut_fused(source, f"{prefix}{NAMES.blocks}.{layer}.attn.c_attn", layer, config.dim)
    for name, shape in expected_shapes(config).items():
        if name in ours:
            continue
        module, _, kind = name.rpartition(".")
        theirs = name if module == "lm_head" else prefix + NAMES.theirs(name)
        if module.startswith("blocks.") and kind == "weight" and len(shape) == 2:  # Conv1D
            ours[name] = source.take(theirs, shape[::-1]).T.contiguous()  # (out, in)
        else:
            ours[name] = source.take(theirs, shape)
    source.finish()
    return ours


def _cut_fused(source: ForeignTensors, theirs: str, layer: int, dim: int) -> dict[str, Tensor]:
    """Return q, k and v of one block out of the one layer that holds them side by side."""
    weight = source.take(f"{theirs}.weight", (dim, 3 * dim)).T  # (3C, C)
    bias = source.take(f"{theirs}.bias", (3 * dim,))
    ours = {}
    for name, w, b in zip(FUSED, weight.chunk(3), bias.chunk(3), strict=True):
        ours[f"blocks.{layer}.attention.{name}.weight"] = w.contiguous()  # (C, C)
        ours[f"blocks.{layer}.attention.{name}.bias"] = b.contiguous()
    return ours


def gpt2_tensors(model: Transformer) -> dict[str, Tensor]:
    """Return a model's tensors under GPT-2's names; raises ValueError for a dial that GPT-2 lacks."""
    check_gpt2(model.config)
    ours = model_tensors(model)
    theirs: dict[str, Tensor] = {}
    for layer in range(model.config.n_layers):
        for kind in ("weight", "bias"):
            parts = [ours.pop(f"blocks.{layer}.attention.{name}.{kind}") for name in FUSED]
            fused = torch.cat(parts)  # (3C, C) or (3C,)
            theirs[f"transformer.{NAMES.blocks}.{layer}.attn.c_attn.{kind}"] = fused.t().contiguous()
    for name, tensor in ours.items():
        if name == "lm_head.weight":
            theirs[name] = tensor
            continue
        is_conv = name.startswith("blocks.") and tensor.ndim == 2
        theirs[f"transformer.{NAMES.theirs(name)}"] = tensor.T.contiguous() if is_conv else tensor
    return theirs


def check_gpt2(config: ModelConfig) -> None:
    """Raise ValueError that names the first dial which GPT-2 cannot hold."""
    refuse_unheld(config, HELD, "GPT-2")
    for dial, value in (*MODE.items(), ("n_kv_heads", config.n_heads)):
        if getattr(config, dial) != value:
            raise ValueError(
                f"{dial}: {getattr(config, dial)!r} cannot be held by the GPT-2 format; it has {value!r}"
            )


def gpt2_content(config: ModelConfig) -> dict[str, Any]:
    """Return GPT-2's config.json."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.max_seq_len,
        "n_embd": config.dim,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_inner": config.ffn_dim,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": "gelu_new",
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": "float32",
    }
