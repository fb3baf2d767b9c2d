"""Every method of quantization on one model: made, saved, opened again as a user opens it, and measured.

Makes the models itself, so that all of them come from one parent, one calibration set and one set of dials.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt.checkpoint.save_load import Checkpoint, load_model, open_checkpoint
from gpt.model.transformer import Transformer
from gpt.quantize.config import Method, QuantizeConfig
from gpt.quantize.cpu_model import prepare_for_cpu
from gpt.quantize.layouts import LAYOUTS
from gpt.quantize.load import load_quantized
from gpt.quantize.methods import quantize_model
from gpt.quantize.quantized_linear import QuantizedLinear
from gpt.quantize.save import save_quantized
from gpt.report.method_scores import Material, memory_bytes, read_material, score

FLOAT = "float"


def make_models(
    parent: Checkpoint,
    methods: Sequence[Method],
    dials: QuantizeConfig,
    calibration: Tensor,
    folder: Path,
    device: torch.device,
) -> tuple[dict[str, Transformer], dict[str, Path], dict[str, str]]:
    """Return the models by method as they open from disk, their folders, and why the absent are absent.

    The first is the float parent itself. A method that does not take the architecture says so.
    """
    models, folders = {FLOAT: load_model(parent).to(device)}, {FLOAT: parent.folder}
    absent: dict[str, str] = {}
    for method in methods:
        model, config = load_model(parent).to(device), replace(dials, method=method)
        try:
            quantize_model(model, calibration, config)
        except ValueError as error:
            absent[method] = str(error)
            continue
        folders[method] = folder / method
        save_quantized(folders[method], model, parent, config, stage="quantize_report")
        models[method] = load_quantized(open_checkpoint(folders[method])).to(device)
    return models, folders, absent


def method_rows(
    models: dict[str, Transformer], folders: dict[str, Path], absent: dict[str, str], material: Material
) -> list[dict[str, Any]]:
    """Return a row a method: its bytes on disk and in memory, and its scores beside the float model's."""
    rows: list[dict[str, Any]] = []
    base = read_material(models[FLOAT], material)
    for method, model in models.items():
        reading = base if method == FLOAT else read_material(model, material)
        sizes = {
            "bits": LAYOUTS[method].bits if method in LAYOUTS else 32,
            "file_bytes": (folders[method] / "model.safetensors").stat().st_size,
            "memory_bytes": memory_bytes(model),
        }
        rows.append({"method": method, **sizes, **score(reading, base, material)})
    return rows + [{"method": method, "absent": reason} for method, reason in absent.items()]


def ready_to_run(models: dict[str, Transformer]) -> dict[str, str]:
    """Put models with packed linears into the form that `rawgpt sample` runs on a CPU, in place.

    For times alone: quality is measured on the plain form, which does not hang on the machine. Return how
    each of them is computed.
    """
    return {
        name: str(prepare_for_cpu(model))
        for name, model in models.items()
        if model.embed.weight.device.type == "cpu"
        and any(isinstance(module, QuantizedLinear) for module in model.modules())
    }
