"""The models of a run: size, parent, and the text each makes of the same prompts.

Sizes come from the architecture in the checkpoint, never from a name or a dial.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gpt.catalog.open_model import OpenModel, open_model
from gpt.checkpoint.manifest import MANIFEST
from gpt.generate.config import SamplingConfig
from gpt.generate.generate_text import generate_text
from gpt.model.flops import count_parameters
from gpt.report.config import ReportConfig
from gpt.tokenizer.chat_template import encode_prompt

TUNED_BY = ("finetune", "align")


def open_models(
    folders: Mapping[str, Path], base_path: Path | None, device: str
) -> Iterator[tuple[str, Path, OpenModel]]:
    """Open one after the other the checkpoints of the folders that have one.

    In front of them the model at base_path as `base`, unless it is one of theirs.
    """
    paths = {label: folder / "checkpoint" for label, folder in folders.items()}
    if base_path is not None and base_path not in paths.values():
        yield "base", base_path, open_model(str(base_path), device=device)
    for label, checkpoint in paths.items():
        if (checkpoint / MANIFEST).is_file():
            yield label, checkpoint, open_model(str(checkpoint), device=device)


def describe(
    label: str, checkpoint: Path, opened: OpenModel, ancestors: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return a model's row; `ancestors` are the rows of the models before it."""
    architecture = opened.info["architecture"]
    count = count_parameters(opened.model.config)
    parent_sha256 = opened.info["parent_sha256"]
    parent = next((row for row in ancestors if row["sha256"] == parent_sha256), None)
    return {
        "model": label,
        "parameters": count.total,
        "active_parameters": count.active,
        "weight_bytes": _weight_bytes(checkpoint),
        "bits": opened.info["quantization"]["bits"] if opened.info["quantization"] else 32,
        "is_tuned": label.startswith(TUNED_BY) or (parent is not None and parent["is_tuned"]),
        "architecture": architecture,
        "sha256": opened.sha256,
        "parent": parent["model"] if parent else None,
        "parent_sha256": parent_sha256,
        "tokenizer_fingerprint": opened.info["tokenizer_fingerprint"],
        "config_fingerprint": opened.info.get("config_fingerprint"),  # somebody else's model has none
    }


def _weight_bytes(path: Path) -> int:
    """Return the size of a checkpoint's weight files, or of the one file that a model is."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.glob("*.safetensors")))


def draw_samples(label: str, opened: OpenModel, config: ReportConfig) -> list[dict[str, Any]]:
    """Return one model's continuation of every text prompt."""
    return [_sample(label, opened, prompt, False, config) for prompt in config.text_prompts]


def draw_answers(label: str, opened: OpenModel, is_tuned: bool, config: ReportConfig) -> list[dict[str, Any]]:
    """Return one model's answer to every chat prompt; a tuned model is asked in its template."""
    return [_sample(label, opened, prompt, is_tuned, config) for prompt in config.chat_prompts]


def _sample(
    label: str, opened: OpenModel, prompt: str, as_chat: bool, config: ReportConfig
) -> dict[str, Any]:
    """Return what a model makes of one prompt, and how it was asked."""
    sampling = SamplingConfig(
        max_tokens=config.sample_tokens, seed=config.seed, temperature=config.temperature
    )
    if as_chat:
        prompt_ids = encode_prompt(opened.tokenizer, [{"role": "user", "content": prompt}])
    else:
        prompt_ids = opened.tokenizer.encode(prompt)
    try:
        pieces = list(
            generate_text(opened.model, opened.tokenizer, prompt_ids, sampling, device=opened.device)
        )
    except ValueError as error:
        raise ValueError(f"report: {prompt!r} asked of {label}: {error}") from None
    return {
        "prompt": prompt,
        "model": label,
        "form": "chat template" if as_chat else "plain text",
        "text": "".join(piece.text for piece in pieces),
        "n_tokens": pieces[-1].n_tokens,
        "finish_reason": pieces[-1].finish_reason,
        "seed": config.seed,
        "temperature": config.temperature,
        "max_tokens": config.sample_tokens,
    }
