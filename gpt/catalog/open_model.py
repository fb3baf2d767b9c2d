"""open_model: a reference -> model, tokenizer, info. The one way to open a model.

A reference is a stage's name, a model of the registry (smollm2-135m), a GGUF file, a safetensors file with
its config.json beside it, or a folder: a checkpoint of ours or a Hugging Face model (GPT-2, Llama, Mixtral).
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpt.catalog.registry_models import fetch_model, registry_models
from gpt.checkpoint.foreign_format import ForeignModel
from gpt.checkpoint.gguf import open_gguf
from gpt.checkpoint.hugging_face import is_hugging_face, open_hugging_face
from gpt.checkpoint.manifest import MANIFEST
from gpt.checkpoint.save_load import Checkpoint, load_model, open_checkpoint
from gpt.config import to_dict
from gpt.model.transformer import Transformer
from gpt.quantize.load import load_quantized
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.tokenizer.vocab_file import load_tokenizer

STAGES = {
    "pretrain": "pretrain",
    "scale-dense": "scale@dense",
    "scale-moe": "scale@moe",
    "finetune": "finetune",
    "align-dpo": "align@dpo",
    "align-ppo": "align@ppo",
    "align-grpo": "align@grpo",
    "quantize": "quantize",
}
"""Model folder name -> the DVC stage that makes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenModel:
    """A model that is ready to run."""

    model: Transformer
    """In evaluation mode, on `device`."""
    tokenizer: Tokenizer
    info: dict[str, Any]
    """The checkpoint's config.json; of a foreign model, its keys that have a meaning there."""
    name: str
    """What the server calls it: the stage, the registry's name, or the folder's or file's own name."""
    sha256: str
    """The identity of the weights: of the checkpoint's manifest, or of the foreign files."""
    device: str


def open_model(reference: str, *, root: Path = Path("models"), device: str = "cpu") -> OpenModel:
    """Open what a reference means; stages stand under `<root>/<stage>/checkpoint`.

    Raises ValueError that says what is available and what to type.
    """
    _check_device(device)
    if reference not in STAGES and reference in registry_models():
        return _open_foreign(open_gguf(fetch_model(reference)), reference, device)
    path = Path(reference)
    if reference not in STAGES and path.is_file():
        return _open_foreign(_open_file(path), path.stem, device)
    if reference not in STAGES and is_hugging_face(path):
        return _open_foreign(open_hugging_face(path), path.resolve().name, device)
    return _open_checkpoint(find_checkpoint(reference, root), device)


def _open_checkpoint(folder: Path, device: str) -> OpenModel:
    """Open a checkpoint folder of ours."""
    checkpoint = open_checkpoint(folder)
    tokenizer = load_tokenizer(folder)
    _check_tokenizer(checkpoint, tokenizer)
    quantized = checkpoint.info["quantization"] is not None
    model = load_quantized(checkpoint) if quantized else load_model(checkpoint)
    path = folder.resolve()
    name = path.parent.name if path.name == "checkpoint" else path.name
    return OpenModel(
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        info=checkpoint.info,
        name=name,
        sha256=checkpoint.sha256,
        device=device,
    )


def _open_file(path: Path) -> ForeignModel:
    """Read a model out of one file."""
    if path.suffix == ".gguf":
        return open_gguf(path)
    if path.suffix == ".safetensors" and is_hugging_face(path.parent):
        return open_hugging_face(path)
    if path.suffix == ".safetensors":
        raise ValueError(f"{path}: no Hugging Face config.json beside it; open the folder {path.parent}")
    raise ValueError(f"{path}: not a model file; .gguf and .safetensors are read")


def _open_foreign(foreign: ForeignModel, name: str, device: str) -> OpenModel:
    """Wrap a model that somebody else trained; its weights are floats, whatever the file held."""
    info = {
        "format": foreign.format,
        "architecture": to_dict(foreign.architecture),
        "tokenizer_fingerprint": foreign.tokenizer.fingerprint,
        "parent_sha256": None,
        "quantization": None,
    }
    return OpenModel(
        model=foreign.load().to(device),
        tokenizer=foreign.tokenizer,
        info=info,
        name=name,
        sha256=foreign.sha256,
        device=device,
    )


def available_stages(root: Path = Path("models")) -> list[str]:
    """Return the stages whose checkpoint stands under `root`."""
    return [name for name in STAGES if (root / name / "checkpoint" / MANIFEST).is_file()]


def find_checkpoint(reference: str, root: Path) -> Path:
    """Return the checkpoint folder that a reference means; raises ValueError for an unknown one."""
    if reference in STAGES:
        folder = root / reference / "checkpoint"
        if not (folder / MANIFEST).is_file():
            raise ValueError(
                f"model: {reference} has no checkpoint yet; run `dvc repro {STAGES[reference]}` first"
                f" ({_available(root)})"
            )
        return folder
    folder = Path(reference)
    if not reference or not folder.is_dir():
        close = difflib.get_close_matches(reference, [*STAGES, *registry_models()], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(
            f"model: got {reference!r}, which is no stage, no file and no folder{hint} ({_available(root)}; "
            f"stages: {', '.join(STAGES)}; registry: {', '.join(registry_models())})"
        )
    if (folder / "adapter.safetensors").is_file():
        raise ValueError(f"{folder}: an adapter, not a whole model; open the checkpoint beside it")
    if not (folder / MANIFEST).is_file() and (folder / "checkpoint" / MANIFEST).is_file():
        raise ValueError(f"{folder}: no checkpoint itself; open {folder / 'checkpoint'}")
    return folder


def _available(root: Path) -> str:
    names = available_stages(root)
    return f"available: {', '.join(names)}" if names else "none is available; run `dvc repro pretrain`"


def _check_device(device: str) -> None:
    """Refuse a device that this machine lacks."""
    try:
        kind, index = torch.device(device).type, torch.device(device).index or 0
    except RuntimeError:
        kind, index = device, 0
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(kind, False) or (kind == "cuda" and index >= torch.cuda.device_count()):
        here = ", ".join(name for name, is_here in present.items() if is_here)
        raise ValueError(f"device: got {device!r}; this machine has {here}")


def _check_tokenizer(checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer that is not the one the weights were trained with."""
    expected = checkpoint.info["tokenizer_fingerprint"]
    if tokenizer.fingerprint != expected:
        raise ValueError(
            f"{checkpoint.folder}/tokenizer.json: fingerprint {tokenizer.fingerprint}, but the weights "
            f"were trained with {expected}; make the checkpoint again"
        )
    n_rows = checkpoint.architecture.vocab_size
    if tokenizer.n_vocab != n_rows:
        raise ValueError(
            f"{checkpoint.folder}: {n_rows} embeddings for {tokenizer.n_vocab} tokens; make it again"
        )
