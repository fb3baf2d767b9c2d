"""A quantized checkpoint as a model: the counterpart of gpt/checkpoint/save_load.load_model."""

from typing import Any

import torch
from torch import Tensor, nn

from gpt.checkpoint.save_load import Checkpoint, model_tensors
from gpt.model.transformer import Transformer
from gpt.quantize.layers import quantizable, replace_module
from gpt.quantize.layouts import LAYOUTS, PACKED_INT4, check_sizes

KEYS = ("method", "bits", "group_size", "linears", "dials")
"""What config.json's quantization may hold."""


def load_quantized(checkpoint: Checkpoint) -> Transformer:
    """Build the model of a quantized checkpoint, weights packed.

    Raises ValueError that names the folder and the key or the tensor that does not fit.
    """
    where = f"{checkpoint.folder}/config.json: quantization"
    info = checkpoint.info["quantization"]
    if info is None:
        raise ValueError(f"{where}: null, so the checkpoint is not quantized; run `dvc repro quantize`")
    model = Transformer(checkpoint.architecture)
    _check_info(where, info, model)
    for name in info["linears"]:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear), name
        replace_module(model, name, LAYOUTS[info["method"]].empty(linear, info))
    _check_tensors(f"{checkpoint.folder}/model.safetensors", model_tensors(model), checkpoint.tensors)
    model.load_state_dict(checkpoint.tensors, strict=False)
    return model.eval()


def _check_info(where: str, info: dict[str, Any], model: Transformer) -> None:
    """Refuse by its key what config.json says of the quantization and this model or this code cannot mean."""
    method = info.get("method")
    if method not in LAYOUTS:
        raise ValueError(f"{where}.method: got {method!r}; {', '.join(LAYOUTS)} are read")
    if info.get("bits") != LAYOUTS[method].bits:
        raise ValueError(f"{where}.bits: {info.get('bits')!r} bits; {method} has {LAYOUTS[method].bits}")
    for key in info:
        if key not in KEYS or (key == "group_size" and method not in PACKED_INT4):
            raise ValueError(f"{where}.{key}: {method} has no such key; run `dvc repro -f quantize`")
    if info.get("linears") != quantizable(model):
        odd = sorted(set(info.get("linears") or ()) ^ set(quantizable(model)))
        raise ValueError(
            f"{where}.linears: {odd[:1] or 'their order'} differs from the architecture's linears"
        )
    group_size = info.get("group_size")
    if method in PACKED_INT4 and (type(group_size) is not int or group_size < 2):
        raise ValueError(f"{where}.group_size: got {group_size!r}")
    check_sizes(model, method, group_size or 0)


def _check_tensors(where: str, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Compare names, shapes and dtypes; scales must be finite."""
    for name in sorted(set(expected) | set(found)):
        if name not in found:
            raise ValueError(f"{where}: tensor {name!r} is missing; run `dvc repro -f quantize`")
        if name not in expected:
            raise ValueError(f"{where}: tensor {name!r} is not of this model; run `dvc repro -f quantize`")
        want, got = expected[name], found[name]
        if want.shape != got.shape or want.dtype != got.dtype:
            raise ValueError(
                f"{where}: tensor {name!r} is {got.dtype} {tuple(got.shape)}, "
                f"{want.dtype} {tuple(want.shape)} is expected"
            )
        if got.is_floating_point() and not bool(torch.isfinite(got).all()):
            raise ValueError(f"{where}: tensor {name!r} is not finite; run `dvc repro -f quantize`")
