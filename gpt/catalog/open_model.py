"""open_model: a stage's name or a checkpoint folder -> model, tokenizer, info. The one way to open a model.

Not here: registry models such as smollm2-135m; a name that is no stage and no folder is refused.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpt.checkpoint.manifest import MANIFEST
from gpt.checkpoint.save_load import Checkpoint, load_model, open_checkpoint
from gpt.model.transformer import Transformer
from gpt.quantize.load import load_quantized
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.tokenizer.vocab_file import load_tokenizer

STAGES = {
    "pretrain": "pretrain",
    "scale-dense": "scale@dense",
    "scale-moe": "scale@moe",
    "finetune": "finetune",
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
    """The checkpoint's config.json."""
    name: str
    """What the server calls it: the stage, or the folder's own name."""
    sha256: str
    """Of the checkpoint's manifest: the identity of the weights."""
    device: str


def open_model(reference: str, *, root: Path = Path("models"), device: str = "cpu") -> OpenModel:
    """Open `<root>/<stage>/checkpoint` for a stage's name, else the folder of that path.

    Raises ValueError that says what is available and what to type.
    """
    _check_device(device)
    folder = find_checkpoint(reference, root)
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
        close = difflib.get_close_matches(reference, STAGES, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(
            f"model: got {reference!r}, which is no stage and no folder{hint} ({_available(root)}; "
            f"stages: {', '.join(STAGES)}; models of the registry cannot be opened yet)"
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
