"""open_model: a reference -> model, tokenizer, info. The one way to open a model.

A reference is a stage's name, a model of the registry (smollm2-135m), a GGUF file, a safetensors file with
its config.json beside it, or a folder: a checkpoint of ours, an adapter of ours (its base is opened with it),
or a Hugging Face model (GPT-2, Llama, Mixtral).
"""

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gpt.adapters.config import LoraConfig
from gpt.adapters.frozen import pack_base
from gpt.adapters.lora import inject_lora, load_lora
from gpt.catalog.registry_models import fetch_model, registry_models, registry_name
from gpt.checkpoint.adapter import Adapter, check_base, is_adapter, open_adapter
from gpt.checkpoint.foreign_format import ForeignModel
from gpt.checkpoint.gguf import open_gguf
from gpt.checkpoint.hugging_face import is_hugging_face, open_hugging_face
from gpt.checkpoint.manifest import MANIFEST
from gpt.checkpoint.save_load import Checkpoint, load_model, open_checkpoint
from gpt.config import from_mapping, to_dict
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
    folder = find_checkpoint(reference, root)
    if is_adapter(folder):
        return _open_adapted(open_adapter(folder), root, device)
    return _open_checkpoint(folder, device)


def _open_adapted(adapter: Adapter, root: Path, device: str) -> OpenModel:
    """Open an adapter's base as it lay in memory in training, and put the adapter on it."""
    base = open_model(_find_base(adapter, root), root=root, device=device)
    check_base(adapter, base.name, base.sha256)
    pack_base(base.model, adapter.base_precision)  # type: ignore[arg-type]
    opened = replace(
        base,
        info=base.info | {"base": base.name, "base_sha256": base.sha256},
        name=_own_name(adapter.folder),
        sha256=adapter.sha256,
    )
    _put_on(opened, adapter)
    return opened


def add_adapter(opened: OpenModel, folder: Path) -> str:
    """Put one more adapter on the base of an opened one, switched on alone; return its name there.

    Raises ValueError for an adapter of another base, and for one whose base lay in another precision.
    """
    adapter = open_adapter(folder)
    check_base(adapter, opened.info.get("base", opened.name), opened.info.get("base_sha256", opened.sha256))
    present = opened.info.get("base_precision", "fp32")
    if adapter.base_precision != present:
        raise ValueError(
            f"{folder}: trained on a base in {adapter.base_precision}, but this one lies in {present}; "
            "open it by itself"
        )
    return _put_on(opened, adapter)


def _put_on(opened: OpenModel, adapter: Adapter) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]", "-", _own_name(adapter.folder))
    config = from_mapping(LoraConfig, adapter.lora, f"{adapter.folder}/config.json: lora")
    inject_lora(opened.model, config, seed=0, name=name)
    load_lora(opened.model, adapter.tensors, name)
    opened.model.requires_grad_(False).eval()
    opened.info["base_precision"] = adapter.base_precision
    return name


def _find_base(adapter: Adapter, root: Path) -> str:
    """Return a reference to an adapter's base: as it was opened then, or a registry model of its hash."""
    name = registry_name(adapter.base_sha256)
    if name is not None and not Path(adapter.base).exists():
        return name
    if adapter.base in STAGES or adapter.base in registry_models() or Path(adapter.base).exists():
        return adapter.base
    beside = root / Path(adapter.base).parent.name / "checkpoint"  # models/ stands elsewhere than in training
    if (beside / MANIFEST).is_file():
        return str(beside)
    raise ValueError(
        f"{adapter.folder}: its base {adapter.base} ({adapter.base_sha256[:16]}) is not here; run from the "
        "folder it was trained in, or bring the base there"
    )


def _own_name(folder: Path) -> str:
    """Return what a model folder is called: the stage above `checkpoint` and `adapter`, else its own name."""
    path = folder.resolve()
    if path.name == "checkpoint":
        return path.parent.name
    return f"{path.parent.name}-adapter" if path.name == "adapter" else path.name


def _open_checkpoint(folder: Path, device: str) -> OpenModel:
    """Open a checkpoint folder of ours."""
    checkpoint = open_checkpoint(folder)
    tokenizer = load_tokenizer(folder)
    _check_tokenizer(checkpoint, tokenizer)
    quantized = checkpoint.info["quantization"] is not None
    model = load_quantized(checkpoint) if quantized else load_model(checkpoint)
    return OpenModel(
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        info=checkpoint.info,
        name=_own_name(folder),
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
