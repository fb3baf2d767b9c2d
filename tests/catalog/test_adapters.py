"""open_model on an adapter: base and adapter together, the wrong base, several on one."""

import json
from pathlib import Path

import pytest
import torch

from gpt.adapters.config import BasePrecision
from gpt.adapters.frozen import pack_base
from gpt.adapters.lora import adapter_names, inject_lora, lora_tensors, merge_lora
from gpt.adapters.switch import use_adapters
from gpt.catalog.open_model import add_adapter, open_model
from gpt.checkpoint.adapter import save_adapter
from gpt.checkpoint.manifest import write_manifest
from gpt.config import to_dict
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer
from tests.adapters.adapted import ALL, IDS, learned
from tests.generate.tiny_checkpoint import save_tiny
from tests.tolerances import TOLERANCE


@pytest.fixture
def root(tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer) -> Path:
    """models/ with a pretrained model."""
    save_tiny(tmp_path / "models/pretrain/checkpoint", modern, tokenizer)
    return tmp_path / "models"


def write_adapter(
    folder: Path, root: Path, *, seed: int = 2, base: str = "", precision: BasePrecision = "fp32"
) -> Transformer:
    """Write an adapter of models/pretrain; return the model that it makes, merged."""
    opened = open_model("pretrain", root=root)
    pack_base(opened.model, precision)
    inject_lora(opened.model, ALL, seed=1)
    learned(opened.model, seed=seed)
    save_adapter(
        folder,
        lora_tensors(opened.model),
        base_sha256=opened.sha256,
        lora=to_dict(ALL),
        stage="finetune",
        base=base or str(root / "pretrain/checkpoint"),
        base_precision=precision,
    )
    merge_lora(opened.model)
    return opened.model


@torch.no_grad()
@pytest.mark.parametrize("precision", ["fp32", "bf16", "nf4"])
def test_a_folder_opens_with_its_base(root: Path, precision: BasePrecision) -> None:
    """Guards: an adapter that only its own stage can use; a QLoRA adapter on a base it did not learn on."""
    merged = write_adapter(root / "finetune/adapter", root, precision=precision)
    opened = open_model(str(root / "finetune/adapter"), root=root)
    assert opened.name == "finetune-adapter"
    assert opened.info["base"] == "pretrain"
    assert opened.sha256 != open_model("pretrain", root=root).sha256
    assert (opened.model(IDS) - merged(IDS)).abs().max() <= TOLERANCE["lora_merged_vs_unmerged"]
    assert not any(p.requires_grad for p in opened.model.parameters())


@torch.no_grad()
def test_a_stage_that_keeps_its_adapter_apart(root: Path) -> None:
    """Guards: finetune.merge: false, and a later stage that cannot open models/finetune."""
    merged = write_adapter(root / "finetune/checkpoint", root)
    opened = open_model("finetune", root=root)
    assert opened.name == "finetune"
    assert (opened.model(IDS) - merged(IDS)).abs().max() <= TOLERANCE["lora_merged_vs_unmerged"]


def test_an_older_folder_says_what_to_type(root: Path) -> None:
    """Guards: a KeyError for an adapter of format 1, whose config.json names neither base nor precision."""
    folder = root / "finetune/adapter"
    write_adapter(folder, root)
    info = json.loads((folder / "config.json").read_text())
    del info["base"], info["base_precision"]
    (folder / "config.json").write_text(json.dumps(info | {"format": "rawgpt-adapter-1"}))
    write_manifest(folder)
    with pytest.raises(ValueError, match=r"'rawgpt-adapter-1', 'rawgpt-adapter-2' is .*`dvc repro finetune`"):
        open_model(str(folder), root=root)


def test_the_wrong_base_is_refused(root: Path, modern: ModelConfig, tokenizer: Tokenizer) -> None:
    """Guards: weights made again under an adapter. The message has both hashes."""
    write_adapter(root / "finetune/adapter", root)
    before = open_model("pretrain", root=root).sha256
    save_tiny(root / "pretrain/checkpoint", modern, tokenizer, seed=1)
    after = open_model("pretrain", root=root).sha256
    with pytest.raises(ValueError, match=f"made for the base {before}, but pretrain is {after}"):
        open_model(str(root / "finetune/adapter"), root=root)
    with pytest.raises(ValueError, match=f"made for the base {before}, but pretrain is {after}"):
        add_adapter(open_model("pretrain", root=root), root / "finetune/adapter")


def test_the_base_is_found_or_named(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards: a relative path of training that means nothing where the server runs."""
    write_adapter(tmp_path / "x", root, base="models/pretrain/checkpoint")
    monkeypatch.chdir("/")
    assert open_model(str(tmp_path / "x"), root=root).info["base"] == "pretrain"
    write_adapter(tmp_path / "y", root, base="elsewhere/base")
    with pytest.raises(ValueError, match=r"its base elsewhere/base \([0-9a-f]{16}\) is not here"):
        open_model(str(tmp_path / "y"), root=root)


@torch.no_grad()
def test_several_on_one_base(root: Path, tmp_path: Path) -> None:
    """Guards: a second adapter that brings a second base, or is added onto the first."""
    merged = {name: write_adapter(tmp_path / name, root, seed=i) for i, name in enumerate("ab")}
    opened = open_model(str(tmp_path / "a"), root=root)
    assert add_adapter(opened, tmp_path / "b") == "b"
    assert adapter_names(opened.model) == ["a", "b"]
    for name in "aba":
        use_adapters(opened.model, name)
        difference = (opened.model(IDS) - merged[name](IDS)).abs().max()
        assert difference <= TOLERANCE["lora_merged_vs_unmerged"]
    write_adapter(tmp_path / "c", root, precision="nf4")
    with pytest.raises(ValueError, match="trained on a base in nf4, but this one lies in fp32"):
        add_adapter(opened, tmp_path / "c")
