"""A tiny project in a temporary folder: its own text, the smoke profile made smaller, every stage real."""

import importlib
import random
from pathlib import Path

import pytest
import torch
import yaml

ROOT = Path(__file__).parents[2]
WORDS = ["the", "king", "and", "queen", "of", "france", "did", "send", "a", "letter", "to", "my", "lord"]


def write_corpus(folder: Path) -> None:
    """Six documents of random words: enough for a vocabulary of 300 and windows of 32."""
    rng = random.Random(0)
    folder.mkdir(parents=True)
    for i in range(6):
        lines = [" ".join(rng.choices(WORDS, k=9)) + "." for _ in range(120)]
        (folder / f"document_{i}.txt").write_text("\n".join(lines), encoding="utf-8")


def tiny_params() -> dict:
    """The smoke profile on the project's own text, smaller still."""
    params = yaml.safe_load((ROOT / "conf/smoke.yaml").read_text())
    params["machine"]["threads"] = 1
    params["fetch"] |= {"source": "./text", "extras": [], "val_fraction": 0.3}
    params["tokenize"]["vocab_size"] = params["pretrain"]["model"]["vocab_size"] = 300
    for train in (params["pretrain"], params["finetune"], *params["scale"].values(), params["ladder"]):
        train["train"] |= {
            "steps": 6,
            "seq_len": 32,
            "micro_batch_size": 2,
            "log_every": 2,
            "checkpoint_every": 2,
        }
        train["train"]["optim"]["warmup_steps"] = 1
    params["ladder"]["model"]["context"] = 32
    params["finetune"]["train"]["seq_len"] = 128  # a chat must reach its first answer
    params["logs"] |= {"n_chats": 60, "n_payment_logs": 20, "use_real_sets": False}
    params["logs"]["own"]["folder"] = ""
    return params


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a fresh tiny project."""
    write_corpus(tmp_path / "text")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tiny_params()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_stage(name: str, *flags: str) -> int:
    """Run a stage in this process; return its exit code."""
    threads = torch.get_num_threads()
    try:
        return getattr(importlib.import_module(f"stages.{name}"), name).main([str(f) for f in flags])
    finally:
        torch.set_num_threads(threads)


CHAIN = {
    "fetch": ["--out", "data/fetch"],
    "tokenize": ["--files", "data/fetch/files", "--out", "models/tokenize"],
    "shard": [
        "--files",
        "data/fetch/files",
        "--tokenizer",
        "models/tokenize/tokenizer",
        "--out",
        "data/shard",
    ],
    "pretrain": [
        "--shards",
        "data/shard/shards",
        "--tokenizer",
        "models/tokenize/tokenizer",
        "--out",
        "models/pretrain",
    ],
}


def run_chain(last: str) -> None:
    """Run fetch .. `last`; every stage must succeed."""
    for name, flags in CHAIN.items():
        assert run_stage(name, *flags) == 0, name
        if name == last:
            return
