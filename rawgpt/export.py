"""`rawgpt export`: a model in the format that somebody else's server reads."""

from pathlib import Path
from typing import Annotated

from typer import Option

DTYPES = {
    "hf": ("fp32", "fp16", "bf16"),
    "gptq": ("fp16", "bf16", "fp32"),
    "gguf": ("f16", "f32", "q8_0", "q4_0", "q4_1"),
    "peft": ("fp32",),
}
"""What each format's weights may be; the first is taken when nothing is said."""
ADAPTER = "models/finetune/adapter"
"""What --to peft writes when no --model is given."""
SERVE = {"hf": "vllm serve {}", "gptq": "vllm serve {}", "gguf": "llama-server -m {}"}


def export(
    to: Annotated[
        str, Option(help="hf (transformers, vLLM), gptq (4 bits, vLLM), gguf (llama.cpp), peft (LoRA).")
    ],
    model: Annotated[str, Option(help="A stage, a folder, a .gguf file, smollm2-135m; an adapter.")] = "",
    out: Annotated[Path | None, Option(help="Folder, or .gguf file; by default below models/export.")] = None,
    dtype: Annotated[
        str, Option(help="hf and gptq: fp32, fp16, bf16; gguf: f32, f16, q8_0, q4_0, q4_1.")
    ] = "",
) -> int:
    """Write a model for transformers, vLLM or llama.cpp: weights, config, tokenizer, chat template.

    --to peft writes an adapter alone; without --model it is finetune's, of others the stage finetune.

    A dial of the architecture that the format cannot hold is refused by its name.

    Example: `rawgpt export --model finetune --to hf`, then `vllm serve models/export/finetune-hf`
    """
    if to not in DTYPES:
        raise ValueError(f"to: got {to!r}; choose one of {', '.join(DTYPES)}")
    if dtype and dtype not in DTYPES[to]:
        raise ValueError(f"dtype: got {dtype!r}; for {to} choose one of {', '.join(DTYPES[to])}")
    if to == "peft":
        return _export_adapter(Path(model or ADAPTER), out)
    from gpt.catalog.open_model import open_model  # after the dials: a typo should not wait for torch
    from gpt.export.gguf_file import export_gguf
    from gpt.export.gptq_files import export_gptq
    from gpt.export.hugging_face import export_hugging_face

    opened = open_model(model or "finetune")
    is_packed = opened.info["quantization"] is not None
    dtype = dtype or ("q4_0" if to == "gguf" and is_packed else DTYPES[to][0])
    name = f"{opened.name}-{dtype}.gguf" if to == "gguf" else f"{opened.name}-{to}"
    target = out or Path("models/export") / name
    _check_target(target, to)
    if to == "gguf":
        export_gguf(target, opened.model, opened.tokenizer, dtype, name=opened.name)  # type: ignore[arg-type]
    elif to == "gptq":
        export_gptq(target, opened.model, opened.tokenizer, dtype)  # type: ignore[arg-type]
    else:
        export_hugging_face(target, opened.model, opened.tokenizer, dtype)  # type: ignore[arg-type]
    size = target.stat().st_size if target.is_file() else sum(f.stat().st_size for f in target.iterdir())
    print(f"{target}  {size:,} bytes, {dtype}, of {opened.name} {opened.sha256[:16]}")
    print(f"  serve it: {SERVE[to].format(target)}")
    return 0


def _export_adapter(folder: Path, out: Path | None) -> int:
    """Write an adapter of ours for peft; its base is named as the export that peft is to find."""
    from gpt.adapters.config import LoraConfig
    from gpt.adapters.peft_format import save_peft
    from gpt.catalog.open_model import open_model
    from gpt.checkpoint.adapter import is_adapter, open_adapter
    from gpt.config import from_mapping

    if not is_adapter(folder):
        raise ValueError(f"model: {folder} is no adapter of ours; `dvc repro finetune` leaves {ADAPTER}")
    opened, adapter = open_model(str(folder)), open_adapter(folder)
    base = f"models/export/{opened.info['base']}-hf"
    target = out or Path("models/export") / f"{opened.name}-peft"
    if target.exists() and not (target / "adapter_config.json").is_file():
        raise ValueError(f"out: {target} is there and is no export; name another folder, or remove it")
    lora = from_mapping(LoraConfig, adapter.lora, f"{folder}/config.json: lora")
    save_peft(target, adapter.tensors, lora, opened.model.config, base=base)
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"{target}  {size:,} bytes, fp32, of {opened.name} {opened.sha256[:16]}")
    print(f"  its base: rawgpt export --model {adapter.base} --to hf --out {base}")
    return 0


def _check_target(target: Path, to: str) -> None:
    """Refuse to put a file in a folder's place, a folder in a file's, or either over something else."""
    if to == "gguf" and target.suffix != ".gguf":
        raise ValueError(f"out: {target} does not end in .gguf")
    if to != "gguf" and target.suffix == ".gguf":
        raise ValueError(f"out: {target}: {to} is a folder; leave .gguf out")
    if to == "gguf" and target.is_dir():
        raise ValueError(f"out: {target} is a folder; name a file")
    if to != "gguf" and target.exists() and not (target / "tokenizer_config.json").is_file():
        raise ValueError(f"out: {target} is there and is no export; name another folder, or remove it")
