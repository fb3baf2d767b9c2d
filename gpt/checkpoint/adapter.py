"""An adapter as a folder of its own: its tensors, its dials, and the hash of the base that it fits.

`adapter.safetensors` holds `<layer>.lora_a` (R, in) and `<layer>.lora_b` (out, R). `config.json` names the
base as it was opened, so that the folder alone can be opened; the hash decides whether that is still the
base.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gpt.checkpoint.atomic import atomic_folder
from gpt.checkpoint.manifest import check_manifest
from gpt.checkpoint.safetensors import read_safetensors, write_safetensors

FORMAT = "rawgpt-adapter-2"
"""1 named no base and no precision: what is in such a folder cannot be opened by itself."""
WEIGHTS = "adapter.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """An opened adapter folder, verified against its manifest."""

    folder: Path
    sha256: str
    base: str
    """What the base was opened as: a path, a stage or a registry model."""
    base_sha256: str
    lora: dict[str, Any]
    """The dials of LoraConfig."""
    base_precision: str
    """How the base lay in memory while it learned."""
    tensors: dict[str, Tensor]


def save_adapter(
    folder: Path,
    tensors: dict[str, Tensor],
    *,
    base_sha256: str,
    lora: dict[str, Any],
    stage: str,
    base: str,
    base_precision: str,
) -> None:
    """Write an adapter folder atomically."""
    info = {
        "format": FORMAT,
        "base": base,
        "base_sha256": base_sha256,
        "base_precision": base_precision,
        "lora": lora,
        "stage": stage,
    }
    with atomic_folder(folder) as temporary:
        write_safetensors(temporary / WEIGHTS, tensors)
        (temporary / "config.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder holds an adapter of ours."""
    return (folder / WEIGHTS).is_file()


def open_adapter(folder: Path) -> Adapter:
    """Read and verify an adapter folder; raises ValueError that names what is wrong."""
    sha256 = check_manifest(folder)
    info = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if info.get("format") != FORMAT:
        raise ValueError(
            f"{folder}/config.json: format {info.get('format')!r}, {FORMAT!r} is expected; "
            "train it again: `dvc repro finetune`"
        )
    return Adapter(
        folder=folder,
        sha256=sha256,
        base=info["base"],
        base_sha256=info["base_sha256"],
        lora=info["lora"],
        base_precision=info["base_precision"],
        tensors=read_safetensors(folder / WEIGHTS),
    )


def check_base(adapter: Adapter, base: str, sha256: str) -> None:
    """Refuse a base that is not the one the adapter was trained on; the message holds both hashes."""
    if adapter.base_sha256 != sha256:
        raise ValueError(
            f"{adapter.folder}: made for the base {adapter.base_sha256}, but {base} is {sha256}; "
            "open the base that it was made for, or run `dvc repro finetune`"
        )
