"""A GGUF file of a Llama, Mixtral or Qwen3, read: weights dequantized to fp32, config, tokenizer.

The `gguf` package, llama.cpp's own, parses the container and dequantizes its block formats; names, shapes,
limits and the rotation are ours. For a Llama, llama.cpp turns neighbouring pairs (x[2i], x[2i+1]) of a head
where we turn halves (x[i], x[i + D/2]), so the rows of q and k are put in our order; for a Qwen3 it turns
halves as we do. A tied output is left out of the file. Written are such files by gpt/export/gguf_file.py.
Not here: other architectures, files in several parts, scaled rotation.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpt.checkpoint.foreign_format import (
    ForeignConfig,
    ForeignModel,
    ForeignTensors,
    NameTable,
    expected_shapes,
)
from gpt.checkpoint.manifest import file_sha256
from gpt.model.config import ModelConfig
from gpt.tokenizer.byte_level import foreign_tokenizer, pad_vocabulary
from gpt.tokenizer.pretokenize import PATTERNS
from gpt.tokenizer.tokenizer import Tokenizer

NAMES = NameTable(
    outer={"embed": "token_embd", "final_norm": "output_norm", "lm_head": "output"},
    blocks="blk",
    inner={
        "attention_norm": "attn_norm",
        "attention.q_proj": "attn_q",
        "attention.k_proj": "attn_k",
        "attention.v_proj": "attn_v",
        "attention.o_proj": "attn_output",
        "attention.q_norm": "attn_q_norm",
        "attention.k_norm": "attn_k_norm",
        "ffn_norm": "ffn_norm",
        "feed_forward.gate_proj": "ffn_gate",
        "feed_forward.up_proj": "ffn_up",
        "feed_forward.down_proj": "ffn_down",
        "feed_forward.router": "ffn_gate_inp",
        "feed_forward.experts_gate": "ffn_gate_exps",
        "feed_forward.experts_up": "ffn_up_exps",
        "feed_forward.experts_down": "ffn_down_exps",
    },
)
ARCHITECTURES = ("llama", "qwen3", "qwen3moe")
PRE_TOKENIZERS = {"gpt-2": "gpt2", "smollm": "smollm"}
"""llama.cpp's name of a split -> ours."""
NORMAL, CONTROL = 1, 3
"""Token types: ordinary text, special."""
UNREADABLE = (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, AttributeError)
"""What the package raises on a file that is cut or garbled."""


def open_gguf(path: Path) -> ForeignModel:
    """Read a GGUF file; raises ValueError that names the file and what is wrong or not held here."""
    fields, tensors = _read_file(path)
    config = gguf_config(fields, str(path), tied="output.weight" not in tensors)
    ours = read_gguf_tensors(tensors, config, str(path))
    tokenizer = _tokenizer(fields, str(path))
    return ForeignModel(
        architecture=config,
        tensors=ours,
        tokenizer=pad_vocabulary(tokenizer, config.vocab_size, str(path)),
        format="gguf",
        sha256=file_sha256(path),
    )


def find_gguf(extra: Path) -> Path:
    """Return the one GGUF file among the extra sets; raises ValueError when there is none, or several."""
    found = sorted(extra.glob("*/*.gguf"))
    if len(found) != 1:
        names = ", ".join(path.parent.name for path in found) or "none"
        raise ValueError(f"kind: gguf takes the vocabulary of one model in fetch.extras, found {names}")
    return found[0]


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the key-values of a file and its tensors, dequantized, each as (out, in)."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    import gguf  # only this file needs the package

    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {
            tensor.name: torch.from_numpy(np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type)))
            for tensor in reader.tensors
        }
    except NotImplementedError as error:
        raise ValueError(f"{path}: a tensor's quantization cannot be read ({error})") from None
    except UNREADABLE as error:
        raise ValueError(f"{path}: damaged, or no GGUF file ({error}); fetch it again") from None
    return fields, tensors


def gguf_config(fields: dict[str, Any], where: str, *, tied: bool) -> ModelConfig:
    """Return the architecture that a file's key-values mean; refuses what we cannot hold."""
    config = ForeignConfig(fields, where)
    arch = fields.get("general.architecture")
    if arch not in ARCHITECTURES:
        raise ValueError(
            f"{where}: general.architecture: {arch!r} is not read; {', '.join(map(repr, ARCHITECTURES))} are"
        )
    config.only("split.count", 0, 1)
    config.only(f"{arch}.rope.scaling.type", "none")
    dim, n_heads = config.integer(f"{arch}.embedding_length"), config.integer(f"{arch}.attention.head_count")
    for key in ("rope.dimension_count", "attention.key_length", "attention.value_length"):
        config.only(f"{arch}.{key}", dim // n_heads)
    experts = {}
    if fields.get(f"{arch}.expert_count"):
        experts["n_experts"] = config.integer(f"{arch}.expert_count")
        experts["n_experts_per_token"] = config.integer(f"{arch}.expert_used_count")
    ffn_key = "expert_feed_forward_length" if arch == "qwen3moe" else "feed_forward_length"
    return config.architecture(
        vocab_size=config.integer(f"{arch}.vocab_size", len(fields.get("tokenizer.ggml.tokens", ()))),
        max_seq_len=config.integer(f"{arch}.context_length"),
        dim=dim,
        n_layers=config.integer(f"{arch}.block_count"),
        n_heads=n_heads,
        n_kv_heads=config.integer(f"{arch}.attention.head_count_kv", n_heads),
        ffn_dim=config.integer(f"{arch}.{ffn_key}"),
        norm_eps=_shortest(config.number(f"{arch}.attention.layer_norm_rms_epsilon")),
        rope_theta=_shortest(config.number(f"{arch}.rope.freq_base", 10000.0)),
        tie_embeddings=tied,
        qk_norm=arch.startswith("qwen3"),
        **experts,
    )


def _shortest(value: float) -> float:
    """Return the decimal that was meant by a number which went through fp32: 1e-05, not 9.99999974e-06."""
    return float(str(np.float32(value)))


def read_gguf_tensors(tensors: dict[str, Tensor], config: ModelConfig, where: str) -> dict[str, Tensor]:
    """Return a file's tensors under our names, q and k in half-split order."""
    source = ForeignTensors(tensors, where)
    ours = {}
    for name, shape in expected_shapes(config).items():
        tensor = source.take(NAMES.theirs(name), shape)
        ours[name] = half_split(tensor, config.head_dim) if is_turned(name, config) else tensor
    source.finish()
    return ours


def is_turned(name: str, config: ModelConfig) -> bool:
    """Tell whether llama.cpp keeps the rows of one of our tensors in another order."""
    return not config.qk_norm and name.endswith(("q_proj.weight", "k_proj.weight"))


def half_split(weight: Tensor, head_dim: int) -> Tensor:
    """Reorder the rows (out, in) of each head: pair i moves from rows 2i, 2i+1 to rows i, i + D/2."""
    pairs = weight.unflatten(0, (-1, head_dim // 2, 2))  # (H, D/2, 2, in)
    return pairs.transpose(1, 2).reshape(weight.shape)


def neighbouring_pairs(weight: Tensor, head_dim: int) -> Tensor:
    """Undo half_split, on any rows (out, ...) of heads."""
    halves = weight.unflatten(0, (-1, 2, head_dim // 2))  # (H, 2, D/2, ...)
    return halves.transpose(1, 2).reshape(weight.shape)


def _tokenizer(fields: dict[str, Any], where: str) -> Tokenizer:
    """Return the tokenizer that a file carries."""
    config = ForeignConfig(fields, where)
    key = "tokenizer.ggml"
    if fields.get(f"{key}.model") != "gpt2" or fields.get(f"{key}.pre") not in PRE_TOKENIZERS:
        raise ValueError(
            f"{where}: {key}.model {fields.get(f'{key}.model')!r} with pre {fields.get(f'{key}.pre')!r} "
            f"is not read; byte-level BPE ('gpt2') with pre {', '.join(PRE_TOKENIZERS)} is"
        )
    config.only(f"{key}.add_bos_token", False)
    config.only(f"{key}.add_space_prefix", False)
    tokens, types = fields.get(f"{key}.tokens", []), fields.get(f"{key}.token_type", [])
    if len(tokens) != len(types) or len(set(tokens)) != len(tokens):
        raise ValueError(f"{where}: {key}.tokens and {key}.token_type do not fit each other")
    if odd := sorted(set(types) - {NORMAL, CONTROL}):
        raise ValueError(f"{where}: {key}.token_type: {odd[0]} is not read; {NORMAL} and {CONTROL} are")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    special = {token: i for i, token in enumerate(tokens) if types[i] == CONTROL}
    merges = [tuple(merge.split(" ")) for merge in fields.get(f"{key}.merges", [])]
    if odd_merge := next((merge for merge in merges if len(merge) != 2), None):
        raise ValueError(f"{where}: {key}.merges: {odd_merge!r} is no pair")
    pattern = PATTERNS[PRE_TOKENIZERS[fields[f"{key}.pre"]]]
    return foreign_tokenizer(vocabulary, [(a, b) for a, b in merges], special, pattern, where)
