"""open_model on files that somebody else made: GGUF, Hugging Face folders, the registry."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

import gpt.catalog.registry_models as registry_models
from gpt.catalog.open_model import open_model
from gpt.checkpoint.llama_weights import save_llama
from gpt.corpus.registry import SourceUnavailable
from gpt.generate.config import SamplingConfig
from gpt.generate.generate_text import generate_text
from gpt.tokenizer.chat_template import encode_prompt
from tests.checkpoint.foreign_files import LLAMA, N_VOCAB, TOKENS, gguf_tensors, save_gguf

ENGLISH = (
    "Photosynthesis is the process by which green plants use sunlight to make their own food. "
    "It needs light, water and carbon dioxide, and it gives off oxygen, which animals breathe."
)


@pytest.fixture
def gguf_path(tmp_path: Path) -> Path:
    """A tiny Llama as GGUF."""
    return save_gguf(tmp_path / "tiny.gguf", LLAMA, gguf_tensors(LLAMA))


def tokenizer_json() -> dict:  # type: ignore[type-arg]
    """The tiny vocabulary as tokenizer.json, in SmolLM2's form."""
    special = {token: i for i, token in enumerate(TOKENS) if token.startswith("<|")}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    return {
        "added_tokens": [{"id": i, "content": token, "special": True} for token, i in special.items()],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(TOKENS)},
            "merges": LLAMA["tokenizer.ggml.merges"],
        },
    }


def test_one_model_by_three_doors(tmp_path: Path, gguf_path: Path) -> None:
    """Guards: a GGUF file, and the same model as a Hugging Face folder and file, that speak differently."""
    by_gguf = open_model(str(gguf_path))
    assert by_gguf.name == "tiny"
    assert by_gguf.sha256 == hashlib.sha256(gguf_path.read_bytes()).hexdigest()
    assert by_gguf.info["format"] == "gguf"
    assert by_gguf.info["quantization"] is None
    assert not by_gguf.model.training

    folder = tmp_path / "llama"
    save_llama(folder, by_gguf.model, end_of_text=by_gguf.tokenizer.end_of_text)
    (folder / "manifest.json").unlink()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    by_folder = open_model(str(folder))
    by_file = open_model(str(folder / "model.safetensors"))
    assert by_folder.name == "llama"
    assert by_folder.tokenizer == by_file.tokenizer == by_gguf.tokenizer
    ids = torch.tensor([by_gguf.tokenizer.encode("the and 12")])
    with torch.inference_mode():
        assert torch.equal(by_folder.model(ids), by_gguf.model(ids))
        assert torch.equal(by_file.model(ids), by_gguf.model(ids))


def test_a_foreign_model_generates(gguf_path: Path) -> None:
    """Guards: a cache, or an id, that a foreign vocabulary breaks; greedy equals the uncached argmax."""
    opened = open_model(str(gguf_path))
    ids = opened.tokenizer.encode("the")
    sampling = SamplingConfig(max_tokens=6, temperature=0.0, seed=0)
    pieces = list(generate_text(opened.model, opened.tokenizer, ids, sampling))
    drawn = [token.step.token_id for piece in pieces for token in piece.tokens]
    with torch.inference_mode():
        for token_id in drawn:
            assert int(opened.model(torch.tensor([ids]))[0, -1].argmax()) == token_id
            ids = [*ids, token_id]
    assert "".join(piece.text for piece in pieces) == opened.tokenizer.decode(drawn)


def test_a_registry_model_is_fetched_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gguf_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards: a download of 98 MB that nobody announced, or announced again when the file is there."""
    monkeypatch.setattr(registry_models, "CACHE_DIR", tmp_path / "cache")
    monkeypatch.setattr(registry_models, "fetch", lambda name: gguf_path)
    opened = open_model("smollm2-135m")
    assert opened.name == "smollm2-135m"
    assert opened.model.config.vocab_size == N_VOCAB
    said = f"smollm2-135m: fetching 98 MB into {tmp_path / 'cache'}, this once (Apache-2.0)\n"
    assert capsys.readouterr().err == said
    entry = registry_models.describe("smollm2-135m")
    cached = tmp_path / "cache" / entry.sha256[:16] / entry.file
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"")
    open_model("smollm2-135m")
    assert capsys.readouterr().err == ""


def test_data_sets_are_no_models() -> None:
    """Guards: a corpus offered as a model."""
    assert registry_models.registry_models() == ["smollm2-135m"]


def test_files_that_are_no_model(tmp_path: Path) -> None:
    """Guards: the folder above opened in silence, a pickle opened at all."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: not a model file; \.gguf and"):
        open_model(str(tmp_path / "pytorch_model.bin"))
    (tmp_path / "x.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"x\.safetensors: no Hugging Face config\.json beside it"):
        open_model(str(tmp_path / "x.safetensors"))
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(ValueError, match=r"x\.gguf: damaged, or no GGUF file"):
        open_model(str(tmp_path / "x.gguf"))


@pytest.mark.slow
def test_smollm2_speaks() -> None:
    """Guards: the real file read by a wrong rotation, theta, eps or split: words that follow from nothing.

    Plain English costs a sound model of this size below 4 nats a token (a uniform guess: ln 49152 = 10.8);
    the same tokens backwards cost it more. That transformers reads the same logits out of this file is
    tests/checkpoint/test_against_transformers.py's.
    """
    try:
        opened = open_model("smollm2-135m")
    except SourceUnavailable as error:
        pytest.skip(str(error))
    tokenizer = opened.tokenizer
    sampling = SamplingConfig(max_tokens=2, temperature=0.0, seed=0)
    prompt = tokenizer.encode("The capital of France is")
    text = "".join(p.text for p in generate_text(opened.model, tokenizer, prompt, sampling))
    assert text == " Paris."
    question = [{"role": "user", "content": "What is the capital of France?"}]
    sampling = SamplingConfig(max_tokens=20, temperature=0.0, seed=0)
    pieces = list(generate_text(opened.model, tokenizer, encode_prompt(tokenizer, question), sampling))
    assert "Paris" in "".join(p.text for p in pieces)
    assert pieces[-1].finish_reason == "stop"  # <|im_end|>

    ids = torch.tensor(tokenizer.encode(ENGLISH))
    with torch.inference_mode():
        forwards, backwards = (
            cross_entropy(opened.model(row[None])[0, :-1], row[1:]).item() for row in (ids, ids.flip(0))
        )
    assert forwards < 4
    assert backwards > forwards + 2
