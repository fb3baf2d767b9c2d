"""A quantized checkpoint as a model: the counterpart of gpt/checkpoint/save_load.load_model."""

import torch
from torch import Tensor

from gpt.checkpoint.save_load import Checkpoint, model_tensors
from gpt.model.transformer import Transformer
from gpt.quantize.layers import check_group_size, quantizable, replace_module
from gpt.quantize.quantized_linear import QuantizedLinear


def load_quantized(checkpoint: Checkpoint) -> Transformer:
    """Build the model of a quantized checkpoint, weights packed.

    Raises ValueError that names the folder and the key or the tensor that does not fit.
    """
    where = f"{checkpoint.folder}/config.json: quantization"
    info = checkpoint.info["quantization"]
    if info is None:
        raise ValueError(f"{where}: null, so the checkpoint is not quantized; run `dvc repro quantize`")
    if info.get("method") != "gptq" or info.get("bits") != 4:
        raise ValueError(
            f"{where}: {info.get('method')!r} with {info.get('bits')!r} bits; gptq with 4 is read"
        )
    model = Transformer(checkpoint.architecture)
    if info.get("linears") != quantizable(model):
        odd = sorted(set(info.get("linears") or ()) ^ set(quantizable(model)))
        raise ValueError(
            f"{where}.linears: {odd[:1] or 'their order'} differs from the architecture's linears"
        )
    group_size = info.get("group_size")
    if type(group_size) is not int or group_size < 2:
        raise ValueError(f"{where}.group_size: got {group_size!r}")
    check_group_size(model, group_size)
    for name in info["linears"]:
        linear = model.get_submodule(name)
        empty = QuantizedLinear(
            linear.in_features,  # type: ignore[arg-type]
            linear.out_features,  # type: ignore[arg-type]
            group_size=group_size,
            bias=checkpoint.architecture.bias,
        )
        replace_module(model, name, empty)
    _check_tensors(f"{checkpoint.folder}/model.safetensors", model_tensors(model), checkpoint.tensors)
    model.load_state_dict(checkpoint.tensors, strict=False)
    return model.eval()


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
