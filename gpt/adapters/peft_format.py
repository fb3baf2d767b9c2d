"""Adapters in peft's files: adapter_config.json and adapter_model.safetensors, out and in.

peft keeps A as `base_model.model.<layer>.lora_A.weight` (R, in) and B as `...lora_B.weight` (out, R), under
the layer names of transformers, which are Llama's here (gpt/checkpoint/llama_weights.py); shapes and scale
are ours. Of its many dials those that change what is computed and that we lack must stand at "off". A
mixture's router has no linear layer in transformers, and GPT-2's fused c_attn none of ours: both are refused.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from gpt.adapters.config import TARGETS, LoraConfig
from gpt.checkpoint.atomic import atomic_folder
from gpt.checkpoint.foreign_format import ForeignConfig, ForeignTensors
from gpt.checkpoint.llama_weights import NAMES
from gpt.checkpoint.safetensors import read_safetensors, write_safetensors
from gpt.model.config import ModelConfig

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
OFF: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "fan_in_fan_out": (False,),
    "use_dora": (False,),
    "use_qalora": (False,),
    "lora_bias": (False,),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, []),
    "target_parameters": (None, []),
    "layer_replication": (None, []),
    "layers_to_transform": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "alora_invocation_tokens": (None,),
}
"""Dials of peft that must stand so, or be absent: anything else computes what LoraConfig cannot say."""


def save_peft(
    folder: Path, tensors: dict[str, Tensor], lora: LoraConfig, model: ModelConfig, *, base: str
) -> None:
    """Write an adapter, as its own file names it, for peft; `base` is what peft is to find the base as.

    Raises ValueError for a model or a target that transformers names otherwise.
    """
    _check_architecture(model)
    for target in lora.targets:
        _check_target(target)
    alpha = int(lora.lora_alpha) if float(lora.lora_alpha).is_integer() else lora.lora_alpha
    content = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": lora.lora_rank,
        "lora_alpha": alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rank_stabilized,
        "target_modules": sorted(lora.targets),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }
    theirs = {peft_name(name): tensor for name, tensor in tensors.items()}
    with atomic_folder(folder) as temporary:
        write_safetensors(temporary / WEIGHTS, theirs, metadata={"format": "pt"})
        (temporary / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_peft(folder: Path, model: ModelConfig) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Return a peft folder's dials and its tensors under our names, fp32, for a base of this architecture.

    Raises ValueError that names a dial we cannot compute, or a tensor missing, surplus or misshapen.
    """
    _check_architecture(model)
    where = folder / CONFIG
    if not where.is_file():
        raise ValueError(f"{where}: no such file; a folder that peft's save_pretrained wrote is expected")
    content = ForeignConfig(json.loads(where.read_text(encoding="utf-8")), str(where))
    for key, allowed in OFF.items():
        content.only(key, *allowed)
    targets = content.content.get("target_modules")
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise ValueError(f"{where}: target_modules: a list of names is expected, got {targets!r}")
    for target in targets:
        _check_target(target)
    dropout = content.content.get("lora_dropout", 0.0)
    lora = LoraConfig(
        lora_rank=content.integer("r"),
        lora_alpha=content.number("lora_alpha"),
        targets=tuple(target for target in TARGETS if target in targets),
        dropout=float(dropout),
        rank_stabilized=content.boolean("use_rslora", False),
    )
    source = ForeignTensors(read_safetensors(folder / WEIGHTS), str(folder / WEIGHTS))
    shapes = adapter_shapes(lora, model)
    tensors = {name: source.take(peft_name(name), shape) for name, shape in shapes.items()}
    source.finish()
    return lora, tensors


def peft_name(ours: str) -> str:
    """Return peft's name of `<layer>.lora_a` or `<layer>.lora_b`."""
    layer, _, kind = ours.rpartition(".")
    theirs = NAMES.theirs(f"{layer}.weight").removesuffix(".weight")
    return f"{PREFIX}{theirs}.lora_{kind.removeprefix('lora_').upper()}.weight"


def adapter_shapes(lora: LoraConfig, model: ModelConfig) -> dict[str, tuple[int, int]]:
    """Return the shape of each tensor of an adapter on a dense model, by our name."""
    kv = model.n_kv_heads * model.head_dim
    sizes = {
        "attention.q_proj": (model.dim, model.dim),
        "attention.k_proj": (kv, model.dim),
        "attention.v_proj": (kv, model.dim),
        "attention.o_proj": (model.dim, model.dim),
        "feed_forward.gate_proj": (model.ffn_dim, model.dim),
        "feed_forward.up_proj": (model.ffn_dim, model.dim),
        "feed_forward.down_proj": (model.dim, model.ffn_dim),
    }
    shapes = {}
    for i in range(model.n_layers):
        for layer, (n_out, n_in) in sizes.items():
            if layer.rpartition(".")[2] in lora.targets:
                shapes[f"blocks.{i}.{layer}.lora_a"] = (lora.lora_rank, n_in)
                shapes[f"blocks.{i}.{layer}.lora_b"] = (n_out, lora.lora_rank)
    return shapes


def _check_architecture(model: ModelConfig) -> None:
    """Refuse a base whose layers transformers does not name as Llama's."""
    if model.position != "rope" or model.bias or model.activation != "swiglu" or model.n_experts:
        raise ValueError(
            "architecture: peft's names of layers are known here for a dense Llama (rope, swiglu, no biases);"
            " merge the adapter (finetune.merge: true) and export the whole model"
        )


def _check_target(target: str) -> None:
    if target not in TARGETS or target == "router":
        known = ", ".join(name for name in TARGETS if name != "router")
        raise ValueError(f"target_modules: {target!r} has no linear layer on both sides; {known} have")
