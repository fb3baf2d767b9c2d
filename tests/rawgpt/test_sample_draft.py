"""`rawgpt sample --draft`: the same greedy text from any draft, and none from one with other tokens."""

import dataclasses
from pathlib import Path

import pytest

from gpt.model.config import ModelConfig
from gpt.tokenizer.tokenizer import Tokenizer, train_tokenizer
from rawgpt.main import run
from tests.conftest import SENTENCES
from tests.generate.tiny_checkpoint import save_tiny


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modern: ModelConfig, tokenizer: Tokenizer) -> Path:
    """A working directory with a model, a smaller one, and one of another tokenizer."""
    save_tiny(tmp_path / "models/pretrain/checkpoint", modern, tokenizer)
    save_tiny(tmp_path / "small/checkpoint", dataclasses.replace(modern, n_layers=1), tokenizer, seed=1)
    other = train_tokenizer(SENTENCES[:1], 280, "gpt2")
    save_tiny(tmp_path / "other/checkpoint", dataclasses.replace(modern, vocab_size=280), other)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_draft_changes_no_greedy_text(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Guards: an option that does nothing, or that changes the text; a draft that reads other tokens."""
    line = ["sample", "--prompt", "Shall I", "--max-tokens", "24", "--temperature", "0"]
    texts = []
    for draft in ([], ["--draft", "small/checkpoint"], ["--draft", "text", "--draft-tokens", "2"]):
        assert run([*line, *draft]) == 0
        texts.append(capfd.readouterr().out)
    assert len(texts[0]) > 1
    assert len(set(texts)) == 1
    assert run([*line, "--draft", "other/checkpoint"]) == 1
    assert "draft: other/checkpoint has another tokenizer (" in capfd.readouterr().err
    assert run([*line, "--draft", "text", "--draft-tokens", "0"]) == 1
    assert "draft_tokens: at least 1 is needed, got 0" in capfd.readouterr().err
