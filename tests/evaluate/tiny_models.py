"""Tiny inputs of the quantize and evaluate stages: a tokenizer, checkpoints, shards and logs in a folder."""

import functools
import json
from pathlib import Path
from typing import Any

import torch

from gpt.checkpoint.save_load import model_tensors, save_checkpoint
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.parallel.config import ParallelConfig
from gpt.quantize.config import QuantizeConfig
from gpt.tokenizer.tokenizer import Tokenizer, train_tokenizer
from gpt.tokenizer.vocab_file import save_tokenizer
from gpt.train.metrics import JsonlSink
from stages.runner import MachineConfig, StageRun
from tests.dataset.tiny_shards import write_tiny_shards

SENTENCE = "the merchant paid forty rupees by upi and paisa wapas nahi aaya so she called her bank again"
WORDS = SENTENCE.split()
QUANTIZE_CONFIG = QuantizeConfig(
    method="gptq",
    group_size=16,
    scale="mse",
    act_order=True,
    damping=0.01,
    n_calibration=12,
    seq_len=24,
    log_fraction=0.5,
    n_test=4,
    seed=0,
)


def tiny_text(n_words: int, seed: int) -> str:
    """Return words in a random order, several to a line."""
    picks = torch.randint(len(WORDS), (n_words,), generator=torch.Generator().manual_seed(seed)).tolist()
    return "".join(WORDS[p] + ("\n" if i % 12 == 11 else " ") for i, p in enumerate(picks))


@functools.cache
def tiny_tokenizer() -> Tokenizer:
    """Train a tokenizer of 300 tokens."""
    return train_tokenizer([tiny_text(500, 0)], 300, "gpt2")


def tiny_config(**changes: Any) -> ModelConfig:
    """Return an architecture for the tiny tokenizer."""
    sizes: dict[str, Any] = {
        "vocab_size": 300,
        "max_seq_len": 64,
        "dim": 32,
        "n_layers": 2,
        "n_heads": 2,
        "n_kv_heads": 1,
        "ffn_dim": 64,
    }
    return ModelConfig(**{**sizes, **changes})


def tiny_model(seed: int = 0, **changes: Any) -> Transformer:
    """Return a model with random weights, large enough that its layers matter."""
    model = Transformer(tiny_config(**changes)).eval()
    init_weights(model, seed, init_std=0.2)
    return model


def tiny_token_ids() -> torch.Tensor:
    """Return calibration sequences (12, 24)."""
    return torch.randint(300, (12, 24), generator=torch.Generator().manual_seed(5))


def save_tiny(folder: Path, model: Transformer) -> Path:
    """Write a model as a float checkpoint; return the folder."""
    tokenizer = tiny_tokenizer()
    save_tokenizer(folder.parent / "tokenizer", tokenizer)
    save_checkpoint(
        folder,
        model_tensors(model),
        model.config,
        stage="pretrain",
        tokenizer_dir=folder.parent / "tokenizer",
        tokenizer_fingerprint=tokenizer.fingerprint,
        config_fingerprint="0" * 16,
    )
    return folder


def write_product_files(logs: Path) -> None:
    """Write the queries with intents and the canaries that the stage logs leaves."""
    names = ["upi", "her bank", "wapas"]
    rows = [{"set": "tiny", "text": w, "label": names[i % 3], "prompt": w} for i, w in enumerate(WORDS)]
    (logs / "intents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (logs / "intent_labels.json").write_text(json.dumps({"tiny": names}))
    place = {"role": None, "turns": []}
    canaries = [{"value": f"98765 0000{i}", "prefix": f"{WORDS[i]} ", **place} for i in range(9)]
    (logs / "canaries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in canaries))


def tiny_run(folder: Path, inputs: dict[str, Path]) -> StageRun:
    """Return what a stage is handed, with shards/, logs/ and files/ written below `folder`."""
    tokenizer = tiny_tokenizer()
    for name in ("shards", "logs", "files", "out"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    documents = {}
    for seed, split in enumerate(("train", "val")):
        documents[split] = [tokenizer.encode(tiny_text(200, 10 * seed + i)) for i in range(3)]
        chat = [{"role": "user", "content": "paisa kab"}, {"role": "assistant", "content": "wapas aaya"}]
        records = [{"kind": "chat", "messages": chat}, {"kind": "payment_log", "text": tiny_text(40, seed)}]
        lines = [
            json.dumps({"id": str(i), "source": "test", "synthetic": True, **r})
            for i, r in enumerate(records)
        ]
        (folder / "logs" / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    write_product_files(folder / "logs")
    write_tiny_shards(
        folder / "shards",
        {split: [texts] for split, texts in documents.items()},
        n_vocab=tokenizer.n_vocab,
        end_of_text=tokenizer.end_of_text,
        fingerprint=tokenizer.fingerprint,
    )
    common = {name: folder / name for name in ("shards", "logs", "files")}
    return StageRun(
        name="test",
        variant=None,
        inputs={**common, **inputs},
        out=folder / "out",
        resume_dir=folder / "resume",
        machine=MachineConfig(
            device="cpu", threads=1, parallel=ParallelConfig(engine="zero3", ranks=1, timeout_s=60.0)
        ),
        sink=JsonlSink(folder / "sink.jsonl"),
    )
