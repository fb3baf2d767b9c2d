"""gpt/checkpoint/gguf.py: a GGUF file read against a second forward pass over the file as it stands."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gpt.checkpoint.gguf import find_gguf, half_split, open_gguf
from tests.checkpoint.foreign_files import LLAMA, MIXTRAL, N_VOCAB, gguf_tensors, save_gguf
from tests.checkpoint.foreign_forward import gguf_logits
from tests.tolerances import TOLERANCE

IDS = [70, 3, 100, 9, 259, 45, 0, 8]


@pytest.mark.parametrize("fields", [LLAMA, MIXTRAL], ids=["llama", "mixtral"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_logits_of_a_file(tmp_path: Path, fields: dict[str, Any], tied: bool) -> None:
    """Guards: neighbouring pairs turned as halves, eps or theta left at a default, gate and up exchanged."""
    tensors = gguf_tensors(fields, tied=tied)
    foreign = open_gguf(save_gguf(tmp_path / "x.gguf", fields, tensors))
    assert foreign.architecture.tie_embeddings is tied
    with torch.inference_mode():
        got = foreign.load()(torch.tensor([IDS]))[0]
    expected = gguf_logits(tensors, IDS, fields)
    assert (got - expected).abs().max() < TOLERANCE["logits_vs_handwritten"]


def test_the_wrong_convention_is_noticed(tmp_path: Path) -> None:
    """Guards: the test above passing with rows in the file's order: it must miss by far, not by a hair."""
    tensors = gguf_tensors(LLAMA)
    model = open_gguf(save_gguf(tmp_path / "x.gguf", LLAMA, tensors)).load()
    for name, parameter in model.named_parameters():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            rows = torch.arange(len(parameter))[:, None].float()
            order = half_split(rows, 8).long().flatten()
            parameter.data[order] = parameter.data.clone()
    with torch.inference_mode():
        miss = (model(torch.tensor([IDS]))[0] - gguf_logits(tensors, IDS, LLAMA)).abs().max()
    assert miss > 1000 * TOLERANCE["logits_vs_handwritten"]


def test_half_split_by_hand() -> None:
    """Two heads of four: pairs (0, 1), (2, 3) become halves (0, 2), (1, 3)."""
    rows = torch.arange(8.0)[:, None]
    assert half_split(rows, 4).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_quantized_blocks_are_dequantized(tmp_path: Path) -> None:
    """Guards: blocks read as they lie. Q8_0 keeps a weight within half a step: its block's largest / 127."""
    tensors = gguf_tensors(LLAMA)
    foreign = open_gguf(save_gguf(tmp_path / "x.gguf", LLAMA, tensors, quantize=True))
    names = {
        "embed.weight": "token_embd.weight",
        "blocks.1.feed_forward.up_proj.weight": "blk.1.ffn_up.weight",
    }
    for ours, theirs in names.items():
        blocks = tensors[theirs].unflatten(-1, (-1, 32))
        largest = blocks.abs().amax(-1, keepdim=True)
        miss = (foreign.tensors[ours].unflatten(-1, (-1, 32)) - blocks).abs()
        assert miss.max() > 0
        assert (miss <= largest * (0.5 / 127 + 2**-10)).all()  # the scale itself is kept in 16 bits


def test_the_tokenizer_of_a_file(tmp_path: Path) -> None:
    """Guards: special tokens at the vocabulary's end, and merges or digits of another model."""
    tokenizer = open_gguf(save_gguf(tmp_path / "x.gguf", LLAMA, gguf_tensors(LLAMA))).tokenizer
    assert tokenizer.n_vocab == N_VOCAB
    assert tokenizer.special_tokens == {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
    the, and_ = tokenizer.encode("theand")
    assert tokenizer.decode_bytes([the]) == b"the"
    assert tokenizer.decode_bytes([and_]) == b"and"
    assert tokenizer.decode(tokenizer.encode("naïve 42 🙏")) == "naïve 42 🙏"
    assert tokenizer.decode([0]) == "<|endoftext|>"


def test_rows_behind_the_vocabulary_get_a_name(tmp_path: Path) -> None:
    """Guards: an id without a text; and a tokenizer that is larger than the model."""
    padded = LLAMA | {"llama.vocab_size": N_VOCAB}
    tokens, types = LLAMA["tokenizer.ggml.tokens"], LLAMA["tokenizer.ggml.token_type"]
    padded |= {
        "tokenizer.ggml.tokens": tokens[:-2],
        "tokenizer.ggml.token_type": types[:-2],
        "tokenizer.ggml.merges": LLAMA["tokenizer.ggml.merges"][:-2],
    }
    tokenizer = open_gguf(save_gguf(tmp_path / "x.gguf", padded, gguf_tensors(LLAMA))).tokenizer
    assert tokenizer.n_vocab == N_VOCAB
    assert tokenizer.special_tokens[f"<|unused_{N_VOCAB - 1}|>"] == N_VOCAB - 1
    small = {name: t[:-1] if name == "token_embd.weight" else t for name, t in gguf_tensors(LLAMA).items()}
    fields = LLAMA | {"llama.vocab_size": N_VOCAB - 1}
    with pytest.raises(ValueError, match=rf"y\.gguf: {N_VOCAB - 1} embeddings for {N_VOCAB} tokens"):
        open_gguf(save_gguf(tmp_path / "y.gguf", fields, small))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"general.architecture": "qwen2"}, "general.architecture: 'qwen2' is not read"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type: 'yarn'"),
        ({"llama.rope.dimension_count": 4}, "llama.rope.dimension_count: 4 is not held here; 8"),
        ({"llama.block_count": 3}, r"tensor 'blk\.2\..*' is missing"),
        ({"llama.block_count": 1}, r"tensor 'blk\.1\..*' has no place"),
        ({"llama.attention.head_count": 3}, "n_heads: 3 does not divide dim 32"),
        ({"llama.feed_forward_length": 65}, r"'blk\.0\.ffn_gate\.weight' has the shape \(64, 32\)"),
        ({"tokenizer.ggml.pre": "llama-bpe"}, "pre 'llama-bpe' is not read"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model 'llama'"),
        ({"tokenizer.ggml.add_bos_token": True}, "add_bos_token: True"),
        ({"tokenizer.ggml.token_type": [1] * N_VOCAB}, "no special token"),
        ({"tokenizer.ggml.token_type": [4] * N_VOCAB}, "token_type: 4 is not read"),
        ({"tokenizer.ggml.merges": ["t h", "an d", "a n", "th e"]}, "out of the order of ids"),
        ({"tokenizer.ggml.merges": ["th"]}, r"\('th',\) is no pair"),
        ({"split.count": 2}, "split.count: 2"),
    ],
)
def test_files_of_another_model(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Guards: another function computed with these weights, or another text, and no word."""
    path = save_gguf(tmp_path / "x.gguf", LLAMA | change, gguf_tensors(LLAMA))
    with pytest.raises(ValueError, match=message) as error:
        open_gguf(path)
    assert "x.gguf" in str(error.value)


def test_cut_and_garbled_files_are_refused_by_name(tmp_path: Path) -> None:
    """Guards: a traceback of the reader, or a model whose last layers are missing."""
    path = save_gguf(tmp_path / "x.gguf", LLAMA, gguf_tensors(LLAMA))
    whole = path.read_bytes()
    n = len(whole)
    cuts = [whole[: n * i // 23] for i in range(23)]
    garbled = [
        b"PK\3\4" + whole[4:],
        whole[:8] + b"\xff" * 8 + whole[16:],
        whole[:16] + b"\xff" * 8 + whole[24:],
    ]
    garbled += [whole[:i] + b"\xff" * 16 + whole[i + 16 :] for i in (24, 60, 200)]
    for data in (*cuts, *garbled):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"x\.gguf: ") as error:
            open_gguf(path)
        assert len(str(error.value)) < 1000
    with pytest.raises(ValueError, match=r"none\.gguf: no such file"):
        open_gguf(tmp_path / "none.gguf")


def test_the_one_model_among_the_extra_sets(tmp_path: Path) -> None:
    """Guards: a vocabulary of whichever file comes first; none, found out by a crash."""
    with pytest.raises(ValueError, match=r"one model in fetch\.extras, found none"):
        find_gguf(tmp_path)
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.gguf").write_bytes(b"")
        if name == "b":
            assert find_gguf(tmp_path) == tmp_path / "b/x.gguf"
    with pytest.raises(ValueError, match="found a, b"):
        find_gguf(tmp_path)
