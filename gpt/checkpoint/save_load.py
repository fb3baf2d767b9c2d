"""A trained model as a folder: weights, architecture, tokenizer, manifest.

The architecture is read from here alone once a model is trained. The folder's name is the sha256 of its
manifest; children record it as `parent_sha256`.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gpt.checkpoint.atomic import atomic_folder
from gpt.checkpoint.manifest import check_manifest
from gpt.checkpoint.safetensors import read_safetensors, write_safetensors
from gpt.config import from_mapping, to_dict
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer

FORMAT = "rawgpt-checkpoint-1"
TOKENIZER_FILES = ("tokenizer.json", "merges.txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """An opened checkpoint folder, verified against its manifest."""

    folder: Path
    sha256: str
    architecture: ModelConfig
    info: dict[str, Any]
    """config.json as it stands."""
    tensors: dict[str, Tensor]


def save_checkpoint(
    folder: Path,
    tensors: dict[str, Tensor],
    architecture: ModelConfig,
    *,
    stage: str,
    tokenizer_dir: Path,
    tokenizer_fingerprint: str,
    config_fingerprint: str,
    parent_sha256: str | None = None,
    quantization: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint folder atomically."""
    info = {
        "format": FORMAT,
        "architecture": to_dict(architecture),
        "stage": stage,
        "tokenizer_fingerprint": tokenizer_fingerprint,
        "config_fingerprint": config_fingerprint,
        "parent_sha256": parent_sha256,
        "quantization": quantization,
    }
    with atomic_folder(folder) as temporary:
        write_safetensors(temporary / "model.safetensors", tensors)
        (temporary / "config.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
        for name in TOKENIZER_FILES:
            shutil.copyfile(tokenizer_dir / name, temporary / name)


def model_tensors(model: Transformer) -> dict[str, Tensor]:
    """Return a model's parameters by name; a tied output projection is left out."""
    tensors = {name: p.detach() for name, p in model.state_dict().items()}
    if model.config.tie_embeddings:
        del tensors["lm_head.weight"]
    return tensors


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint folder; raises ValueError that names what is wrong."""
    sha256 = check_manifest(folder)
    info = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if info.get("format") != FORMAT:
        raise ValueError(f"{folder}/config.json: format {info.get('format')!r}, {FORMAT!r} is expected")
    return Checkpoint(
        folder=folder,
        sha256=sha256,
        architecture=from_mapping(ModelConfig, info["architecture"], f"{folder}/config.json"),
        info=info,
        tensors=read_safetensors(folder / "model.safetensors"),
    )


def load_tensors(model: Transformer, tensors: dict[str, Tensor]) -> None:
    """Copy tensors into a model; every name and shape must match."""
    expected = model_tensors(model)
    if missing := sorted(set(expected) ^ set(tensors)):
        raise ValueError(f"tensor {missing[0]!r} is in the model or in the file, but not in both")
    model.load_state_dict(tensors, strict=False)


def load_model(checkpoint: Checkpoint) -> Transformer:
    """Build the float model of a checkpoint; a quantized one is opened by gpt/quantize/load.py."""
    assert checkpoint.info["quantization"] is None, "a quantized checkpoint"
    model = Transformer(checkpoint.architecture)
    load_tensors(model, checkpoint.tensors)
    return model.eval()
