"""An adapter as a folder of its own: its tensors, its dials, and the hash of the base that it fits."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from gpt.checkpoint.atomic import atomic_folder
from gpt.checkpoint.manifest import check_manifest
from gpt.checkpoint.safetensors import read_safetensors, write_safetensors

FORMAT = "rawgpt-adapter-1"


def save_adapter(
    folder: Path, tensors: dict[str, Tensor], *, base_sha256: str, lora: dict[str, Any], stage: str
) -> None:
    """Write an adapter folder atomically."""
    info = {"format": FORMAT, "base_sha256": base_sha256, "lora": lora, "stage": stage}
    with atomic_folder(folder) as temporary:
        write_safetensors(temporary / "adapter.safetensors", tensors)
        (temporary / "config.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")


def open_adapter(folder: Path, base_sha256: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an adapter's tensors and config; raises ValueError when it belongs to another base."""
    check_manifest(folder)
    info = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if info.get("format") != FORMAT:
        raise ValueError(f"{folder}/config.json: format {info.get('format')!r}, {FORMAT!r} is expected")
    if info["base_sha256"] != base_sha256:
        raise ValueError(
            f"{folder}: made for the base {info['base_sha256'][:16]}, not {base_sha256[:16]}; "
            "run `dvc repro finetune`"
        )
    return read_safetensors(folder / "adapter.safetensors"), info
