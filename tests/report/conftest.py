"""The tiny run, gathered once for the room."""

from pathlib import Path
from typing import Any

import pytest

from gpt.model.config import ModelConfig
from gpt.report.results import gather
from gpt.tokenizer.tokenizer import Tokenizer
from tests.report.tiny_run import CONFIG, FOLDERS, TAGS, write_run

ARCHITECTURE = ModelConfig(
    vocab_size=320, max_seq_len=32, dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=64, qk_norm=True
)


@pytest.fixture(scope="session")
def run_root(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A folder with the tiny run; tests leave it as it is."""
    root = tmp_path_factory.mktemp("run")
    write_run(root, ARCHITECTURE, tokenizer)
    return root


@pytest.fixture(scope="session")
def folders(run_root: Path) -> dict[str, Path]:
    """{label: folder} of the tiny run."""
    return {label: run_root / path for label, path in FOLDERS.items()}


@pytest.fixture(scope="session")
def results(run_root: Path, folders: dict[str, Path]) -> dict[str, Any]:
    """Results of the tiny run; tests copy what they change."""
    return gather(folders, run_root / "dvc.yaml", CONFIG, tags=TAGS)
