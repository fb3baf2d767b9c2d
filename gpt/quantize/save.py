"""A quantized model as a checkpoint folder, and its size beside its parent's."""

from pathlib import Path

from gpt.checkpoint.save_load import Checkpoint, model_tensors, save_checkpoint
from gpt.config import fingerprint, to_dict
from gpt.model.transformer import Transformer
from gpt.quantize.config import QuantizeConfig
from gpt.quantize.layers import quantizable
from gpt.quantize.layouts import LAYOUTS, PACKED_INT4, packed_linears


def save_quantized(
    folder: Path, model: Transformer, parent: Checkpoint, config: QuantizeConfig, *, stage: str
) -> None:
    """Write the folder; the tokenizer and the architecture are the parent's.

    config.json keeps the dials, so that another method can be tried under the same ones.
    """
    linears = quantizable(model)
    assert list(packed_linears(model)) == linears
    group = {"group_size": config.group_size} if config.method in PACKED_INT4 else {}
    save_checkpoint(
        folder,
        model_tensors(model),
        parent.architecture,
        stage=stage,
        tokenizer_dir=parent.folder,
        tokenizer_fingerprint=parent.info["tokenizer_fingerprint"],
        config_fingerprint=fingerprint(config),
        parent_sha256=parent.sha256,
        quantization={
            "method": config.method,
            "bits": LAYOUTS[config.method].bits,
            **group,
            "linears": linears,
            "dials": to_dict(config),
        },
    )


def size_metrics(parent: Checkpoint, child: Checkpoint) -> dict[str, float]:
    """Return bytes of both weight files, and of the quantized matrices alone with their ratio."""
    linears = child.info["quantization"]["linears"]
    before = sum(parent.tensors[f"{name}.weight"].nbytes for name in linears)
    parts = {name.rpartition(".") for name in child.tensors}
    after = sum(
        child.tensors[f"{name}.{part}"].nbytes
        for name, _, part in parts
        if name in set(linears) and part != "bias"
    )
    return {
        "bytes_before": (parent.folder / "model.safetensors").stat().st_size,
        "bytes_after": (child.folder / "model.safetensors").stat().st_size,
        "linear_bytes_before": before,
        "linear_bytes_after": after,
        "linear_ratio": round(before / after, 3),
    }
