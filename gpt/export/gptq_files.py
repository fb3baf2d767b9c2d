"""A 4-bit model as a GPTQ checkpoint that vLLM, transformers and GPTQModel serve.

For each linear (out, in) with groups of g inputs: qweight int32 (in/8, out), eight codes of one output along
the inputs, the first in the lowest bits; qzeros int32 (in/g, out/8); scales fp16 (in/g, out); g_idx int32
(in). A weight is scale * (code - zero). The format called "gptq" stores zero - 1, which for our symmetric
grid (gpt/kernels/int4_packing.py) is 7 everywhere. Servers differ in what they take of the format: vLLM
wants symmetric grids, groups in the order of the inputs and in and out that 32 divides.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt.checkpoint.llama_weights import family_of, hugging_face_config
from gpt.checkpoint.save_load import model_tensors
from gpt.export.hugging_face import Precision, write_folder
from gpt.kernels.int4_packing import ZERO_CODE, unpack_int4
from gpt.model.transformer import Transformer
from gpt.quantize.layouts import check_packed_int4
from gpt.quantize.quantized_linear import QuantizedLinear
from gpt.tokenizer.tokenizer import Tokenizer

CODES_IN_WORD = 8
SIZES_OF_SERVERS = 32
"""What vLLM's kernels want in and out to be multiples of."""


def export_gptq(folder: Path, model: Transformer, tokenizer: Tokenizer, precision: Precision) -> None:
    """Write the folder atomically; `precision` is that of what is not packed.

    Raises ValueError for a float model and for one that the format cannot hold.
    """
    check_packed_int4(model, "export --to gptq")
    packed = {n: m for n, m in model.named_modules() if isinstance(m, QuantizedLinear)}
    if not packed:
        raise ValueError("model: its weights are floats; write --to hf, or export `--model quantize`")
    if model.config.position == "learned":
        raise ValueError("position: 'learned' cannot be held: GPT-2's linears are not read by GPTQ's servers")
    family = family_of(model.config)
    tensors: dict[str, Tensor] = {}
    for name, linear in packed.items():
        theirs = family.names.theirs(f"{name}.weight").removesuffix(".weight")
        tensors |= {f"{theirs}.{part}": value for part, value in gptq_tensors(name, linear).items()}
    for name, tensor in model_tensors(model).items():
        if name.rpartition(".")[0] not in packed:
            tensors[family.names.theirs(name)] = tensor
    quantization = quantization_config(next(iter(packed.values())).group_size)
    content = hugging_face_config(model.config) | {"quantization_config": quantization}
    extra = {"quantize_config.json": quantization}
    write_folder(folder, tensors, content, tokenizer, precision, model.config.max_seq_len, extra)


def gptq_tensors(name: str, linear: QuantizedLinear) -> dict[str, Tensor]:
    """Return a linear in the format's layout; raises ValueError for sizes that its servers refuse."""
    n_in, n_out = linear.in_features, linear.out_features
    if n_in % SIZES_OF_SERVERS or n_out % SIZES_OF_SERVERS:
        raise ValueError(
            f"{name}: {n_in} inputs and {n_out} outputs; GPTQ's servers want multiples of {SIZES_OF_SERVERS}"
        )
    assert linear.bias is None, name
    codes = unpack_int4(linear.packed)  # (out, in)
    zeros = torch.full((n_in // linear.group_size, n_out), ZERO_CODE - 1, dtype=torch.uint8)
    return {
        "qweight": pack_words(codes.T),  # (in/8, out)
        "qzeros": pack_words(zeros.T).T.contiguous(),  # (in/g, out/8)
        "scales": linear.scales.T.contiguous(),  # (in/g, out)
        "g_idx": (torch.arange(n_in) // linear.group_size).int(),  # (in,)
    }


def pack_words(codes: Tensor) -> Tensor:
    """Pack codes uint8 (n, m), each 0..15, eight rows into a word: int32 (n/8, m), the first row lowest.

    >>> pack_words(torch.arange(8, dtype=torch.uint8)[:, None]).tolist()
    [[1985229328]]
    """
    words = codes.to(torch.int64).unflatten(0, (-1, CODES_IN_WORD))  # (n/8, 8, m)
    shifts = (4 * torch.arange(CODES_IN_WORD))[None, :, None]
    unsigned = (words << shifts).sum(dim=1)  # (n/8, m)
    return torch.where(unsigned >= 2**31, unsigned - 2**32, unsigned).int()


def quantization_config(group_size: int) -> dict[str, Any]:
    """Return what quantize_config.json and config.json say of the layout."""
    return {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": group_size,
        "sym": True,
        "desc_act": False,
        "lm_head": False,
        "checkpoint_format": "gptq",
        "pack_dtype": "int32",
        "meta": {"quantizer": ["rawgpt"]},
    }
