"""Llama, Mixtral and Qwen3 (dense and mixture) as Hugging Face keeps them: names and config, in and out.

All turn halves of a head (rotate_half) as we do, so no weight is permuted. Qwen3 is a Llama with QK-norm,
its mixture a Mixtral with it. A mixture keeps each expert apart, ours are stacked; Mixtral calls its three
matrices w1 (gate), w2 (down), w3 (up). Names follow the files that transformers writes; biases, scaled
rotation and a sliding window make another model, which is refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
        "qk_norm",
        "n_experts",
        "n_experts_per_token",
    }
)
_LLAMA = NameTable(
    outer={"embed": "model.embed_tokens", "final_norm": "model.norm", "lm_head": "lm_head"},
    blocks="model.layers",
    inner={
        "attention_norm": "input_layernorm",
        "attention.q_proj": "self_attn.q_proj",
        "attention.k_proj": "self_attn.k_proj",
        "attention.v_proj": "self_attn.v_proj",
        "attention.o_proj": "self_attn.o_proj",
        "attention.q_norm": "self_attn.q_norm",
        "attention.k_norm": "self_attn.k_norm",
        "ffn_norm": "post_attention_layernorm",
        "feed_forward.gate_proj": "mlp.gate_proj",
        "feed_forward.up_proj": "mlp.up_proj",
        "feed_forward.down_proj": "mlp.down_proj",
    },
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One of the model types of this file."""

    model_type: str
    architecture: str
    """transformers' class."""
    mixture: str = ""
    """What a block's mixture is called; empty for a dense model."""
    experts: Mapping[str, str] = field(default_factory=dict)
    """Our stacked tensors -> the matrix of one expert."""
    ffn_key: str = "intermediate_size"
    n_experts_key: str = ""

    @property
    def names(self) -> NameTable:
        """Our tensor names in this family's words."""
        router = {"feed_forward.router": f"{self.mixture}.gate"} if self.mixture else {}
        return replace(_LLAMA, inner={**_LLAMA.inner, **router})


FAMILIES = {
    family.model_type: family
    for family in (
        Family(model_type="llama", architecture="LlamaForCausalLM"),
        Family(
            model_type="mixtral",
            architecture="MixtralForCausalLM",
            mixture="block_sparse_moe",
            experts={"experts_gate": "w1", "experts_down": "w2", "experts_up": "w3"},
            n_experts_key="num_local_experts",
        ),
        Family(model_type="qwen3", architecture="Qwen3ForCausalLM"),
        Family(
            model_type="qwen3_moe",
            architecture="Qwen3MoeForCausalLM",
            mixture="mlp",
            experts={f"experts_{kind}": f"{kind}_proj" for kind in ("gate", "down", "up")},
            ffn_key="moe_intermediate_size",
            n_experts_key="num_experts",
        ),
    )
}


def family_of(config: ModelConfig) -> Family:
    """Return the family that holds an architecture; raises ValueError for a dial that none can hold."""
    kind = ("qwen3_moe" if config.n_experts else "qwen3") if config.qk_norm else ""
    family = FAMILIES[kind or ("mixtral" if config.n_experts else "llama")]
    refuse_unheld(config, HELD, family.architecture.removesuffix("ForCausalLM"))
    return family


def llama_config(content: dict[str, Any], where: str) -> ModelConfig:
    """Return the architecture that a config.json of these families means; refuses what we cannot hold."""
    config = ForeignConfig(content, where)
    family = FAMILIES[content["model_type"]]
    config.only("hidden_act", "silu")
    for key in ("attention_bias", "mlp_bias"):
        config.only(key, False)
    config.only("rope_scaling", None)
    config.only("sliding_window", None)
    config.only("use_sliding_window", False)
    config.only("quantization_config", None)
    n_heads, dim = config.integer("num_attention_heads"), config.integer("hidden_size")
    config.only("head_dim", dim // n_heads, None)
    experts = {}
    if family.mixture:
        experts["n_experts"] = config.integer(family.n_experts_key)
        experts["n_experts_per_token"] = config.integer("num_experts_per_tok")
    if family.model_type == "qwen3_moe":
        config.only("decoder_sparse_step", 1)
        config.only("mlp_only_layers", [], None)
        if not config.boolean("norm_topk_prob", False):
            raise ValueError(f"{where}: norm_topk_prob: false is not held here; true is expected")
    return config.architecture(
        vocab_size=config.integer("vocab_size"),
        max_seq_len=config.integer("max_position_embeddings"),
        dim=dim,
        n_layers=config.integer("num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=config.integer("num_key_value_heads", n_heads),
        ffn_dim=config.integer(family.ffn_key),
        norm_eps=config.number("rms_norm_eps"),
        rope_theta=_rope_theta(config),
        tie_embeddings=config.boolean("tie_word_embeddings", False),
        qk_norm=family.model_type.startswith("qwen3"),
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
    """Return the tensors of a file under our names, fp32; refuses missing, surplus, misshapen ones."""
    source, family = ForeignTensors(tensors, where), family_of(config)
    if config.tie_embeddings:
        source.drop_copy("lm_head.weight", "model.embed_tokens.weight")
    ours = {}
    for name, shape in expected_shapes(config).items():
        if experts := _expert_names(name, config.n_experts, family):
            ours[name] = torch.stack([source.take(theirs, shape[1:]) for theirs in experts])  # (E, out, in)
        else:
            ours[name] = source.take(family.names.theirs(name), shape)
    source.finish()
    return ours


def _expert_names(ours: str, n_experts: int, family: Family) -> list[str]:
    """Return the names of the experts that a stacked tensor of ours holds; none for other tensors."""
    module, _, kind = ours.rpartition(".")
    if kind not in family.experts:
        return []
    prefix = f"{_LLAMA.blocks}.{module.split('.')[1]}.{family.mixture}.experts"
    return [f"{prefix}.{e}.{family.experts[kind]}.weight" for e in range(n_experts)]


def llama_tensors(model: Transformer) -> dict[str, Tensor]:
    """Return a model's tensors under Hugging Face's names; raises ValueError for a dial it cannot hold."""
    config, family = model.config, family_of(model.config)
    theirs: dict[str, Tensor] = {}
    ours = model_tensors(model)
    if odd := sorted(ours.keys() ^ expected_shapes(config).keys()):
        raise ValueError(f"model: tensor {odd[0]!r} is no float weight; a Llama file holds floats alone")
    for name, tensor in ours.items():
        if experts := _expert_names(name, config.n_experts, family):
            theirs |= dict(zip(experts, tensor, strict=True))
        else:
            theirs[family.names.theirs(name)] = tensor
    return theirs


def save_llama(folder: Path, model: Transformer, *, end_of_text: int | None = None) -> None:
    """Write a model as a Hugging Face Llama, or what its experts and QK-norm make of it, atomically.

    The tokenizer is not written. Raises ValueError that names a dial which the format cannot hold.
    """
    tensors = {name: tensor.float() for name, tensor in llama_tensors(model).items()}
    content = hugging_face_config(model.config) | {"bos_token_id": end_of_text, "eos_token_id": end_of_text}
    with atomic_folder(folder) as temporary:
        write_safetensors(temporary / "model.safetensors", tensors, metadata={"format": "pt"})
        (temporary / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def hugging_face_config(config: ModelConfig) -> dict[str, Any]:
    """Return the config.json of an architecture; theta stands twice, for old readers and new."""
    family = family_of(config)
    content: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
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
    if family.mixture:
        content[family.n_experts_key] = config.n_experts
        content["num_experts_per_tok"] = config.n_experts_per_token
    return content | ONLY_THERE[family.model_type] | {family.ffn_key: config.ffn_dim}


ONLY_THERE: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": False, "mlp_bias": False},
    "mixtral": {"sliding_window": None},
    "qwen3": {"attention_bias": False, "use_sliding_window": False},
    "qwen3_moe": {
        "attention_bias": False,
        "use_sliding_window": False,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    },
}
"""Keys that one family alone has, at the one value that we compute."""
