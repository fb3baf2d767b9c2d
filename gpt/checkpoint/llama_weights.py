"""Llama and Mixtral as Hugging Face keeps them: names and config, in and out.

Both turn halves of a head (rotate_half) as we do, so no weight is permuted. A Mixtral keeps each expert
apart, under w1 (gate), w2 (down), w3 (up); ours are stacked. Names follow the files that transformers
writes; a Llama with QK-norm, biases, scaled rotation or a sliding window is another model and is refused.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt.checkpoint.atomic import atomic_folder
from gpt.checkpoint.foreign_format import (
    ForeignConfig,
    ForeignTensors,
    NameTable,
    expected_shapes,
    refuse_unheld,
)
from gpt.checkpoint.safetensors import write_safetensors
from gpt.checkpoint.save_load import model_tensors
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer

HELD = frozenset(
    {
        "vocab_size",
        "max_seq_len",
        "dim",
        "n_layers",
        "n_heads",
        "n_kv_heads",
        "ffn_dim",
        "norm_eps",
        "rope_theta",
        "tie_embeddings",
        "n_experts_per_token",  # without experts it means nothing
    }
)
NAMES = NameTable(
    outer={"embed": "model.embed_tokens", "final_norm": "model.norm", "lm_head": "lm_head"},
    blocks="model.layers",
    inner={
        "attention_norm": "input_layernorm",
        "attention.q_proj": "self_attn.q_proj",
        "attention.k_proj": "self_attn.k_proj",
        "attention.v_proj": "self_attn.v_proj",
        "attention.o_proj": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "feed_forward.gate_proj": "mlp.gate_proj",
        "feed_forward.up_proj": "mlp.up_proj",
        "feed_forward.down_proj": "mlp.down_proj",
        "feed_forward.router": "block_sparse_moe.gate",
    },
)
EXPERTS = {"experts_gate": "w1", "experts_down": "w2", "experts_up": "w3"}


def llama_config(content: dict[str, Any], where: str) -> ModelConfig:
    """Return the architecture that a Llama's or Mixtral's config.json means; refuses what we cannot hold."""
    config = ForeignConfig(content, where)
    config.only("hidden_act", "silu")
    for key in ("attention_bias", "mlp_bias"):
        config.only(key, False)
    config.only("rope_scaling", None)
    config.only("sliding_window", None)
    config.only("quantization_config", None)
    n_heads, dim = config.integer("num_attention_heads"), config.integer("hidden_size")
    config.only("head_dim", dim // n_heads, None)
    experts = {}
    if content["model_type"] == "mixtral":
        experts["n_experts"] = config.integer("num_local_experts")
        experts["n_experts_per_token"] = config.integer("num_experts_per_tok")
    return config.architecture(
        vocab_size=config.integer("vocab_size"),
        max_seq_len=config.integer("max_position_embeddings"),
        dim=dim,
        n_layers=config.integer("num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=config.integer("num_key_value_heads", n_heads),
        ffn_dim=config.integer("intermediate_size"),
        norm_eps=config.number("rms_norm_eps"),
        rope_theta=_rope_theta(config),
        tie_embeddings=config.boolean("tie_word_embeddings", False),
        **experts,
    )


def _rope_theta(config: ForeignConfig) -> float:
    """Return theta from `rope_parameters` (transformers 5) or the top level (older); both must agree."""
    nested = config.content.get("rope_parameters")
    if nested is None:
        return config.number("rope_theta", 10000.0)
    if not isinstance(nested, dict):
        raise ValueError(f"{config.where}: rope_parameters: a mapping is expected, got {nested!r}")
    inner = ForeignConfig(nested, f"{config.where}: rope_parameters")
    inner.only("rope_type", "default")
    inner.only("partial_rotary_factor", 1.0, None)
    theta = inner.number("rope_theta")
    config.only("rope_theta", theta, None)
    return theta


def read_llama(tensors: dict[str, Tensor], config: ModelConfig, where: str) -> dict[str, Tensor]:
    """Return a Llama's or Mixtral's tensors under our names, fp32; refuses missing, surplus, misshapen."""
    source = ForeignTensors(tensors, where)
    if config.tie_embeddings:
        source.drop_copy("lm_head.weight", "model.embed_tokens.weight")
    ours = {}
    for name, shape in expected_shapes(config).items():
        if experts := _expert_names(name, config):
            ours[name] = torch.stack([source.take(theirs, shape[1:]) for theirs in experts])  # (E, out, in)
        else:
            ours[name] = source.take(NAMES.theirs(name), shape)
    source.finish()
    return ours


def _expert_names(ours: str, config: ModelConfig) -> list[str]:
    """Return the names of the experts that a stacked tensor of ours holds; none for other tensors."""
    module, _, kind = ours.rpartition(".")
    if kind not in EXPERTS:
        return []
    prefix = f"{NAMES.blocks}.{module.split('.')[1]}.block_sparse_moe.experts"
    return [f"{prefix}.{e}.{EXPERTS[kind]}.weight" for e in range(config.n_experts)]


def llama_tensors(model: Transformer) -> dict[str, Tensor]:
    """Return a model's tensors under Hugging Face's names; raises ValueError for a dial it cannot hold."""
    config = model.config
    if config.n_experts:
        refuse_unheld(config, HELD | {"n_experts"}, "Mixtral")
    else:
        refuse_unheld(config, HELD, "Llama")
    theirs: dict[str, Tensor] = {}
    ours = model_tensors(model)
    if odd := sorted(ours.keys() ^ expected_shapes(config).keys()):
        raise ValueError(f"model: tensor {odd[0]!r} is no float weight; a Llama file holds floats alone")
    for name, tensor in ours.items():
        if experts := _expert_names(name, config):
            theirs |= dict(zip(experts, tensor, strict=True))
        else:
            theirs[NAMES.theirs(name)] = tensor
    return theirs


def save_llama(folder: Path, model: Transformer, *, end_of_text: int | None = None) -> None:
    """Write a model as a Hugging Face Llama, or Mixtral when it has experts, atomically.

    The tokenizer is not written. Raises ValueError that names a dial which the format cannot hold.
    """
    tensors = {name: tensor.float() for name, tensor in llama_tensors(model).items()}
    content = hugging_face_config(model.config) | {"bos_token_id": end_of_text, "eos_token_id": end_of_text}
    with atomic_folder(folder) as temporary:
        write_safetensors(temporary / "model.safetensors", tensors, metadata={"format": "pt"})
        (temporary / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def hugging_face_config(config: ModelConfig) -> dict[str, Any]:
    """Return the config.json of a Llama or Mixtral; theta stands twice, for old readers and new."""
    content: dict[str, Any] = {
        "architectures": ["MixtralForCausalLM" if config.n_experts else "LlamaForCausalLM"],
        "model_type": "mixtral" if config.n_experts else "llama",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_seq_len,
        "hidden_size": config.dim,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.ffn_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": "float32",
    }
    if config.n_experts:
        more = {"num_local_experts": config.n_experts, "num_experts_per_tok": config.n_experts_per_token}
        return content | more | {"sliding_window": None}
    return content | {"attention_bias": False, "mlp_bias": False}
