"""rawgpt export: what a person types, and what comes of it."""

from pathlib import Path

import pytest

from gpt.catalog.open_model import open_model
from gpt.model.config import ModelConfig
from rawgpt.main import run
from tests.export.small_models import KINDS, trained_tokenizer
from tests.generate.tiny_checkpoint import save_tiny


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tokenizer = trained_tokenizer()
    config = ModelConfig(vocab_size=tokenizer.n_vocab, **KINDS["qwen3"])  # type: ignore[arg-type]
    save_tiny(tmp_path / "models/finetune/checkpoint", config, tokenizer)
    return tmp_path


def test_export_and_open_again(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: a file that is written where nobody looks, or that our own catalogue cannot open."""
    assert run(["export", "--to", "hf"]) == 0
    assert "serve it: vllm serve models/export/finetune-hf" in capsys.readouterr().out
    assert run(["export", "--to", "gguf", "--dtype", "f32"]) == 0
    assert "llama-server -m models/export/finetune-f32.gguf" in capsys.readouterr().out
    ours = open_model("finetune")
    for path in ("models/export/finetune-hf", "models/export/finetune-f32.gguf"):
        assert open_model(path).model.config == ours.model.config
    assert run(["export", "--to", "hf"]) == 0  # over an export of before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "onnx"], "to: got 'onnx'; choose one of hf, gptq, gguf"),
        (["--to", "hf", "--dtype", "q8_0"], "dtype: got 'q8_0'; for hf choose one of fp32, fp16, bf16"),
        (["--to", "gptq"], "model: its weights are floats; write --to hf"),
        (["--to", "gguf", "--out", "x"], "out: x does not end in .gguf"),
        (["--to", "hf", "--out", "models"], "out: models is there and is no export"),
        (["--to", "hf", "--model", "finetun"], "did you mean finetune?"),
    ],
)
def test_what_a_person_mistypes(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    """Guards: a traceback, or a folder of somebody's replaced by an export."""
    assert run(["export", *words]) == 1
    assert message in capsys.readouterr().err
