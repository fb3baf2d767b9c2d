"""gpt/report/models.py: rows and samples."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from gpt.catalog.open_model import open_model
from gpt.checkpoint.manifest import file_sha256
from gpt.generate.config import SamplingConfig
from gpt.generate.generate_text import generate_text
from gpt.report.models import draw_samples
from gpt.report.results import gather
from gpt.tokenizer.chat_template import encode_prompt
from tests.report.tiny_run import CONFIG, TAGS


def test_rows_are_counted_and_chained(results: dict[str, Any], folders: dict[str, Path]) -> None:
    """Guards: a size taken from a dial, a 4-bit model counted by its packed bytes, a chain with a gap.

    By hand, V=320 C=32 L=2 F=64 G·D=16, D=8: embedding 320·32 = 10,240; a block has attention
    2·32² + 2·32·16 + 2·8 = 3,088, two norms 64 and SwiGLU 3·32·64 = 6,144, so 9,296; 2 blocks and the
    final norm: 10,240 + 18,592 + 32 = 28,864.
    """
    rows = {row["model"]: row for row in results["models"]}
    assert list(rows) == ["pretrain", "finetune", "quantize"]
    assert {row["parameters"] for row in rows.values()} == {28864}
    assert [rows[name]["parent"] for name in rows] == [None, "pretrain", "finetune"]
    assert [rows[name]["is_tuned"] for name in rows] == [False, True, True]
    assert [rows[name]["bits"] for name in rows] == [32, 32, 4]
    for name, row in rows.items():
        checkpoint = folders[name] / "checkpoint"
        assert row["sha256"] == file_sha256(checkpoint / "manifest.json")
        assert row["weight_bytes"] == (checkpoint / "model.safetensors").stat().st_size


def test_a_base_from_outside_is_shown_and_asked_as_a_chat(
    run_root: Path, tmp_path: Path, folders: dict[str, Path]
) -> None:
    """Guards: a demo without its `before`, because the base of finetune is no stage's model.

    The tiny run's pretrain, moved to where no stage looks, stands for it.
    """
    base = tmp_path / "elsewhere"
    shutil.copytree(folders["pretrain"] / "checkpoint", base)
    others = {label: folder for label, folder in folders.items() if label != "pretrain"}
    found = gather(others, run_root / "dvc.yaml", CONFIG, tags=TAGS, base_path=base)
    assert [row["model"] for row in found["models"]] == ["base", "finetune", "quantize"]
    assert found["demo"]["models"] == ["base", "finetune"]
    assert {(s["model"], s["form"]) for s in found["demo"]["answers"]} == {
        ("base", "chat template"),
        ("finetune", "chat template"),
    }
    inside = folders["pretrain"] / "checkpoint"
    labels = [
        row["model"]
        for row in gather(folders, run_root / "dvc.yaml", CONFIG, tags=TAGS, base_path=inside)["models"]
    ]
    assert "base" not in labels


def test_a_tuned_model_is_asked_in_its_template_and_others_in_plain_text(
    results: dict[str, Any], folders: dict[str, Path]
) -> None:
    """Guards: a tuned model that never sees its template, a base shown tokens it never learned."""
    forms = {(s["model"], s["prompt"]): s["form"] for s in results["samples"]}
    assert forms == {(name, "Shall I"): "plain text" for name in ("pretrain", "finetune", "quantize")}
    forms = {(s["model"], s["prompt"]): s["form"] for s in results["demo"]["answers"]}
    assert forms == {
        ("pretrain", "Mera UPI?"): "plain text",
        ("finetune", "Mera UPI?"): "chat template",
    }
    sampling = SamplingConfig(max_tokens=4, seed=6, temperature=0.8)
    for name, ids_of in (
        ("pretrain", lambda tokenizer: tokenizer.encode("Mera UPI?")),
        ("finetune", lambda tokenizer: encode_prompt(tokenizer, [{"role": "user", "content": "Mera UPI?"}])),
    ):
        opened = open_model(str(folders[name] / "checkpoint"))
        pieces = generate_text(opened.model, opened.tokenizer, ids_of(opened.tokenizer), sampling)
        expected = "".join(piece.text for piece in pieces)
        (found,) = [s for s in results["demo"]["answers"] if s["model"] == name]
        assert found["text"] == expected
        assert found["seed"] == 6


def test_a_prompt_that_does_not_fit_is_named(folders: dict[str, Path]) -> None:
    """Guards: a message about a context that names neither prompt nor model."""
    opened = open_model(str(folders["pretrain"] / "checkpoint"))
    config = dataclasses.replace(CONFIG, text_prompts=("x" * 500,))
    with pytest.raises(ValueError, match=r"report: 'xxx.* asked of pretrain: .*shorten it"):
        draw_samples("pretrain", opened, config)
