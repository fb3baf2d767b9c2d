"""rawgpt export: what a person types, and what comes of it."""

from pathlib import Path

import pytest
import torch

from gpt.adapters.config import LoraConfig
from gpt.adapters.lora import inject_lora, lora_tensors
from gpt.adapters.peft_format import read_peft
from gpt.catalog.open_model import open_model
from gpt.checkpoint.adapter import save_adapter
from gpt.config import to_dict
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


def test_an_adapter_for_peft(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: an adapter that only a Python function can export; one whose base cannot be found again."""
    base = open_model("finetune")
    config = LoraConfig(lora_rank=2, lora_alpha=4.0, targets=("q_proj", "up_proj"), dropout=0.0)
    inject_lora(base.model, config, seed=1)
    tensors = lora_tensors(base.model)
    save_adapter(
        checkpoint / "models/finetune/adapter",
        tensors,
        base_sha256=base.sha256,
        lora=to_dict(config),
        stage="finetune",
        base="models/finetune/checkpoint",
        base_precision="fp32",
    )
    assert run(["export", "--to", "peft"]) == 0
    assert (
        "--model models/finetune/checkpoint --to hf --out models/export/finetune-hf"
        in capsys.readouterr().out
    )
    written = checkpoint / "models/export/finetune-adapter-peft"
    lora, found = read_peft(written, base.model.config)
    assert (lora.lora_rank, lora.lora_alpha, lora.targets) == (2, 4.0, ("q_proj", "up_proj"))
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in found)
    assert run(["export", "--to", "peft"]) == 0  # over an export of before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "onnx"], "to: got 'onnx'; choose one of hf, gptq, gguf, peft"),
        (["--to", "hf", "--dtype", "q8_0"], "dtype: got 'q8_0'; for hf choose one of fp32, fp16, bf16"),
        (["--to", "gptq"], "model: its weights are floats; write --to hf"),
        (["--to", "peft"], "model: models/finetune/adapter is no adapter of ours"),
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
