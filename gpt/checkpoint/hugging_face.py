"""A Hugging Face model folder, read: config.json, safetensors (one file or shards), byte-level tokenizer.

Not here: torch's own pickle files (.bin), which run code when they are opened; convert them first.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from gpt.checkpoint.foreign_format import ForeignModel
from gpt.checkpoint.gpt2_weights import gpt2_config, read_gpt2
from gpt.checkpoint.llama_weights import FAMILIES, llama_config, read_llama
from gpt.checkpoint.manifest import MANIFEST, check_manifest, file_sha256
from gpt.checkpoint.safetensors import read_safetensors
from gpt.model.config import ModelConfig
from gpt.tokenizer.byte_level import pad_vocabulary
from gpt.tokenizer.hugging_face import load_hugging_face_tokenizer

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
MODEL_TYPES = ("gpt2", *FAMILIES)


def is_hugging_face(folder: Path) -> bool:
    """Tell whether a folder's config.json names a model type, as Hugging Face's do and ours do not."""
    if not (folder / CONFIG).is_file():
        return False
    try:
        return "model_type" in _read_json(folder / CONFIG)
    except ValueError:
        return not (folder / MANIFEST).is_file()  # ours carries one and is checked against it


def open_hugging_face(path: Path) -> ForeignModel:
    """Read a folder, or one safetensors file with config.json and tokenizer beside it.

    Raises ValueError that names the file and the key or tensor which is missing or not held here.
    """
    folder, weights = (path, None) if path.is_dir() else (path.parent, path)
    if (folder / MANIFEST).is_file():
        check_manifest(folder)
    config, tensors = read_weights(folder, weights)
    tokenizer = load_hugging_face_tokenizer(folder, _model_type(folder))
    files = [weights] if weights else weight_files(folder)
    return ForeignModel(
        architecture=config,
        tensors=tensors,
        tokenizer=pad_vocabulary(tokenizer, config.vocab_size, str(folder)),
        format=f"hugging-face {_model_type(folder)}",
        sha256=_sha256([*files, folder / CONFIG]),
    )


def read_weights(folder: Path, weights: Path | None = None) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return a folder's architecture and its tensors under our names, without the tokenizer."""
    content, where = _read_json(folder / CONFIG), str(folder / CONFIG)
    model_type = _model_type(folder)
    tensors: dict[str, Tensor] = {}
    for file in [weights] if weights else weight_files(folder):
        shard = read_safetensors(file)
        if twice := sorted(tensors.keys() & shard.keys()):
            raise ValueError(f"{file}: tensor {twice[0]!r} stands in another shard too")
        tensors |= shard
    if model_type == "gpt2":
        config = gpt2_config(content, where)
        return config, read_gpt2(tensors, config, str(folder))
    config = llama_config(content, where)
    return config, read_llama(tensors, config, str(folder))


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder: one, or the shards that the index lists, all present."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    if not index.is_file():
        raise ValueError(f"{folder}: neither {WEIGHTS} nor {INDEX}; pickle files (.bin) are not opened")
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index}: weight_map is missing")
    files = []
    for name in sorted({str(file) for file in weight_map.values()}):
        if Path(name).name != name or not (folder / name).is_file():
            raise ValueError(f"{index}: the shard {name!r} is not in the folder; download it too")
        files.append(folder / name)
    return files


def _model_type(folder: Path) -> str:
    found = _read_json(folder / CONFIG).get("model_type")
    if found not in MODEL_TYPES:
        raise ValueError(
            f"{folder / CONFIG}: model_type: {found!r} is not read; {', '.join(MODEL_TYPES)} are"
        )
    return str(found)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; it says what the weights beside it are") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: damaged ({error}); download it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a mapping is expected")
    return content


def _sha256(files: list[Path]) -> str:
    """Return one hash of several files and their names."""
    hashes = {file.name: file_sha256(file) for file in files}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
