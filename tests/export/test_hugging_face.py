"""gpt/export/hugging_face.py and tokenizer_files.py: written, read back, or refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt.checkpoint.hugging_face import open_hugging_face
from gpt.checkpoint.safetensors import read_safetensors
from gpt.checkpoint.save_load import model_tensors
from gpt.export.hugging_face import export_hugging_face
from gpt.export.tokenizer_files import chat_template, ending_ids, tokenizer_json
from gpt.tokenizer.chat_template import encode_chat
from gpt.tokenizer.tokenizer import Tokenizer, char_tokenizer
from tests.export.small_models import KINDS, TEXTS, chat_ml, model_of, trained_tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_back(tmp_path: Path, kind: str) -> None:
    """Guards: a dial, a tensor or a token lost on the way out."""
    tokenizer = trained_tokenizer()
    model = model_of(kind, tokenizer)
    export_hugging_face(tmp_path / "hf", model, tokenizer, "fp32")
    again = open_hugging_face(tmp_path / "hf")
    assert again.architecture == model.config
    assert again.format == f"hugging-face {kind}"
    expected = model_tensors(model)
    assert again.tensors.keys() == expected.keys()
    assert all(torch.equal(again.tensors[name], expected[name]) for name in expected)
    assert again.tokenizer == tokenizer


@pytest.mark.parametrize("pattern", ["gpt2", "smollm", "modern"])
def test_the_tokenizer_gives_the_same_ids(tmp_path: Path, pattern: str) -> None:
    """Guards: merges in an order that gives other ids, a split pattern that the format escapes."""
    tokenizer = trained_tokenizer(pattern)
    export_hugging_face(tmp_path / "hf", model_of("llama", tokenizer), tokenizer, "fp32")
    again = open_hugging_face(tmp_path / "hf").tokenizer
    assert all(again.encode(text) == tokenizer.encode(text) for text in TEXTS)
    assert again.special_tokens == tokenizer.special_tokens


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision(tmp_path: Path, precision: str) -> None:
    """Guards: a dtype in the config that the weights do not have; 2 bytes a weight."""
    tokenizer = trained_tokenizer()
    model = model_of("llama", tokenizer)
    export_hugging_face(tmp_path / "hf", model, tokenizer, precision)  # type: ignore[arg-type]
    name = {"fp16": "float16", "bf16": "bfloat16"}[precision]
    assert json.loads((tmp_path / "hf/config.json").read_text())["torch_dtype"] == name
    tensors = read_safetensors(tmp_path / "hf/model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, name)}
    expected = model.embed.weight.to(getattr(torch, name))
    assert torch.equal(tensors["model.embed_tokens.weight"], expected)


def test_a_weight_beyond_fp16_is_named(tmp_path: Path) -> None:
    """Guards: an infinite weight in a file that loads without a word."""
    tokenizer = trained_tokenizer()
    model = model_of("llama", tokenizer)
    with torch.no_grad():
        model.final_norm.weight[0] = 1e5
    with pytest.raises(ValueError, match=r"dtype: model\.norm\.weight holds a weight beyond torch\.float16"):
        export_hugging_face(tmp_path / "hf", model, tokenizer, "fp16")
    assert not (tmp_path / "hf").exists()


def test_a_dial_that_no_family_holds(tmp_path: Path) -> None:
    """Guards: a model that loads elsewhere and speaks differently there."""
    tokenizer = trained_tokenizer()
    model = model_of("qwen3", tokenizer)
    model.config = dataclasses.replace(model.config, logit_softcap=15.0)
    with pytest.raises(ValueError, match=r"^logit_softcap: 15\.0 cannot be held by the Qwen3 format"):
        export_hugging_face(tmp_path / "hf", model, tokenizer, "fp32")


def test_a_char_tokenizer_is_refused() -> None:
    """Guards: characters written as if they were merges of bytes."""
    with pytest.raises(ValueError, match=r"tokenize\.kind: 'char' cannot be held"):
        tokenizer_json(char_tokenizer(["abc"]))


@pytest.mark.parametrize("make", [trained_tokenizer, chat_ml])
def test_the_chat_template_writes_what_we_train_on(make: Any) -> None:
    """Guards: a server that prompts a chat model in another form than it was trained in."""
    import jinja2

    tokenizer: Tokenizer = make()
    messages = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "ji haan"}]
    template = chat_template(tokenizer)
    assert template is not None
    text = jinja2.Template(template).render(messages=messages, add_generation_prompt=False)
    ids, _ = encode_chat(tokenizer, messages)
    assert text == tokenizer.decode(ids[:-1])  # ours closes a document, too
    opened = jinja2.Template(template).render(messages=messages[:1], add_generation_prompt=True)
    assert text.startswith(opened)
    assert len(ending_ids(tokenizer)) == 2
