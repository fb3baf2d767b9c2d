"""A run in miniature on disk: every stage's folder, three models of random weights, figures made up here."""

import json
from pathlib import Path
from typing import Any

import torch

from gpt.checkpoint.save_load import load_model, open_checkpoint
from gpt.model.config import ModelConfig
from gpt.quantize.config import QuantizeConfig
from gpt.quantize.methods import quantize_nearest
from gpt.quantize.save import save_quantized
from gpt.report.config import ReportConfig
from gpt.tokenizer.tokenizer import Tokenizer
from tests.generate.tiny_checkpoint import save_tiny

CONFIG = ReportConfig(
    text_prompts=("Shall I",),
    chat_prompts=("Mera UPI?",),
    sample_tokens=4,
    temperature=0.8,
    seed=6,
    heatmap_text="Shall I compare thee",
    heatmap_heads=4,
    dollars_per_hour=3.6,
)
TAGS = {
    "git_sha": "c0ffee" + "0" * 34,
    "git_dirty": "false",
    "machine.cpu": "A CPU & Co",
    "machine.cores": "2",
    "machine.gpu": "none",
    "machine.torch": "2.9.0",
}
QUANTIZE = QuantizeConfig(
    method="gptq",
    group_size=8,
    scale="absmax",
    act_order=False,
    damping=0.01,
    n_calibration=1,
    seq_len=8,
    log_fraction=0.5,
    n_test=1,
    seed=4,
)
CURVE = "step,tokens,loss,val_loss,lr,grad_norm\n10,640,3.5,,0.01,1.0\n20,1280,2.5,2.75,0.01,1.5\n"
TRAIN = {"seed": 11, "eval_batches": 2, "micro_batch_size": 3, "seq_len": 5}
FOLDERS = {
    "fetch": "data/fetch",
    "tokenize": "models/tokenize",
    "shard": "data/shard",
    "ladder": "models/ladder",
    "pretrain": "models/pretrain",
    "scale-moe": "models/scale-moe",
    "logs": "data/logs",
    "finetune": "models/finetune",
    "quantize": "models/quantize",
    "quantize_report": "models/quantize_report",
    "evaluate": "models/evaluate",
    "package": "models/package",
    "rag": "models/rag",
}
METRICS: dict[str, dict[str, Any]] = {
    "fetch": {"documents": 42, "time_s": 7.5},
    "tokenize": {"n_vocab": 320, "time_s": 2.5},
    "shard": {"train_tokens": 1753537.0, "time_s": 1.0},
    "ladder": {
        "symbols": 65,
        "uniform": 4.1744,
        "bigram": 2.51,
        "bigram_parameters": 4225,
        "bigram_one_batch": 2.48,
        "bigram_full": 2.51,
        "block": 1.93,
        "block_parameters": 161089,
        "time_s": 20.0,
    },
    "pretrain": {"val_loss": 2.75, "parameters": 1, "tokens_per_s": 9000, "time_s": 100.0},
    "scale-moe": {
        "val_loss": 2.6,
        "parent_val_loss": 2.75,
        "grown_val_loss": 2.75002,
        "growth_jump": 0.00002,
        "time_s": 50.0,
    },
    "logs": {
        "n_train": 90,
        "n_val": 10,
        "n_real": 12,
        "n_synthetic": 88,
        "planted": 200,
        "leaked": 1,
        "recall": 0.995,
        "redacted": 260,
        "false_positive_rate": 0.01,
        "time_s": 3.0,
    },
    "finetune": {"val_loss": 1.5, "trainable_parameters": 10, "parameters": 100, "time_s": 30.0},
    "quantize": {
        "bytes_before": 4000,
        "bytes_after": 1000,
        "linear_bytes_before": 3000,
        "linear_bytes_after": 420,
        "linear_ratio": 7.143,
        "perplexity_before": 20.0,
        "perplexity_after": 21.0,
        "perplexity_increase": 0.05,
        "perplexity_increase_nearest": 0.1,
        "test_tokens": 2016,
        "time_s": 6.0,
    },
    "quantize_report": {"ms_per_token_float": 2.5, "ms_per_token_gptq": 1.5, "time_s": 0.0},
    "evaluate": {"time_s": 9.0},
    "package": {"has_eif": False, "booted": False, "why_no_eif": "no Debian here", "time_s": 1.0},
    "rag": {"is_on": True, "time_s": 0.0},
}
SCORES = [
    _row
    for model, bpb in (("pretrain", 3.25), ("finetune", 3.75))
    for _row in (
        {"model": model, "metric": "bits_per_byte", "value": bpb, "stderr": 0.03125, "n": 421,
         "unit": "window", "chance": None, "absent": None},
        {"model": model, "metric": "logs_loss", "value": 2.125, "stderr": None, "n": 10,
         "unit": "record", "chance": None, "absent": None},
        {"model": model, "metric": "intent_generated_acc", "value": bpb / 10, "stderr": 0.125, "n": 12,
         "unit": "query", "chance": 0.0625, "absent": None},
        {"model": model, "metric": "hellaswag_lm_eval_acc_norm_char", "value": None, "stderr": None, "n": 0,
         "unit": "item", "chance": 0.25, "absent": "the set hellaswag_val was not fetched"},
    )
]  # fmt: skip
_FLOAT = {
    "method": "float", "bits": 32, "file_bytes": 4000, "memory_bytes": 4096, "perplexity": 20.0,
    "perplexity_stderr": 0.5, "bits_per_byte": 2.125, "bits_per_byte_stderr": 0.03125, "rise": 0.0,
    "rise_stderr": 0.0, "windows": 4, "tokens": 1024, "items": 0,
}  # fmt: skip
METHODS = [
    _FLOAT,
    {**_FLOAT, "method": "gptq", "bits": 4, "file_bytes": 1000, "rise": 0.0625, "rise_stderr": 0.0078125},
    {"method": "awq", "absent": "architecture.norm_gain: false leaves awq <no> place"},
]
SOURCES = {
    "source": {
        "set": "shakespeare",
        "licence": "public domain",
        "description": "42 texts",
        "sha256": "ab" * 32,
    },
    "extras": {
        "hellaswag_val": {
            "found": False,
            "reason": "no network here",
            "licence": "MIT",
            "description": "items",
        },
        "banking77_train": {"found": True, "file": "x", "licence": "CC BY 4.0", "description": "queries"},
    },
    "split": {"n_val": 2, "rule": "by document", "val_ids": ["othello.txt"]},
}
MEASUREMENT = {
    "booted": False,
    "note": "measured, never booted",
    "is_signed": False,
    "payload_sha384": "cd" * 48,
    "eif": None,
    "why_no_eif": "no Debian here",
}
RAG = {
    "is_on": True,
    "questions": "sentences <taken> out",
    "is_synthetic": True,
    "n_documents": 3,
    "n_passages": 8,
    "model": "pretrain",
    "ranking": "rerank",
    "retrieval": {
        name: {
            figure: {"value": 0.4375, "stderr": 0.0625, "n": 16}
            for figure in ("recall_at_1", "recall_at_5", "mrr")
        }
        for name in ("dense", "rerank")
    },
    "answers": {
        condition: {"nats": {"value": value, "stderr": 0.125, "n": 16}}
        for condition, value in (
            ("without", 5.25),
            ("retrieved", 5.125),
            ("right", 5.0),
            ("retrieved_minus_without", -0.125),
        )
    },
    "examples": [
        {
            "question": "Shall I <compare> thee?",
            "right": ["to a summer's day"],
            "answer": "a day",
            "is_known": True,
            "passages": [
                {
                    "number": None,
                    "place": "othello.txt:3 (characters 0-20)",
                    "text": "a passage too long for the model",
                    "coverage": 0.75,
                    "is_right": False,
                },
                {
                    "number": 1,
                    "place": "sonnets.txt:7 (characters 40-60)",
                    "text": "a summer's day",
                    "coverage": 0.5,
                    "is_right": True,
                },
            ],
            "citations": [
                {
                    "number": 1,
                    "document": "sonnets.txt",
                    "line": 7,
                    "start": 44,
                    "end": 49,
                    "quote": "a day",
                    "found_by": "verbatim",
                }
            ],
        }
    ],
    "dials": {"seed": 8},
}
DVC_YAML = """\
stages:
  fetch: {cmd: x, desc: Get the corpus}
  tokenize: {cmd: x}
  shard: {cmd: x}
  ladder: {cmd: x}
  pretrain: {cmd: x, desc: Train <the> model}
  scale: {matrix: {variant: [moe]}, cmd: x, desc: Grow}
  logs: {cmd: x}
  finetune: {cmd: x}
  quantize: {cmd: x}
  quantize_report: {cmd: x}
  evaluate: {cmd: x}
  package: {cmd: x}
  rag: {cmd: x}
  report: {cmd: x}
"""


def write_run(root: Path, architecture: ModelConfig, tokenizer: Tokenizer) -> dict[str, Path]:
    """Write the run under `root`; return {label: folder}."""
    folders = {label: root / path for label, path in FOLDERS.items()}
    for label, folder in folders.items():
        folder.mkdir(parents=True)
        write(folder / "metrics.json", METRICS[label])
    for label in ("pretrain", "scale-moe", "finetune"):
        (folders[label] / "curve.csv").write_text(CURVE)
    (folders["ladder"] / "curves.csv").write_text(
        "rung,step,loss,val_loss\nbigram,10,3.1,3.0\nbigram,20,2.6,2.5\nblock,10,2.5,2.4\nblock,20,2.0,1.9\n"
    )
    write(folders["evaluate"] / "scores.json", SCORES)
    write(folders["quantize_report"] / "methods.json", METHODS)
    write(folders["fetch"] / "files/sources.json", SOURCES)
    write(folders["package"] / "image/measurement.json", MEASUREMENT)
    write(folders["rag"] / "results.json", RAG)
    write_models(folders, architecture, tokenizer)
    (root / "dvc.yaml").write_text(DVC_YAML)
    lock = {"pretrain": {"train": TRAIN}, "scale@moe": {"growth": {"seed": 2}, "train": TRAIN}}
    locked = {key: {"params": {"params.yaml": {key.replace("@", "."): d}}} for key, d in lock.items()}
    write(root / "dvc.lock", {"schema": "2.0", "stages": locked})  # JSON is YAML
    return folders


def write_models(folders: dict[str, Path], architecture: ModelConfig, tokenizer: Tokenizer) -> None:
    """Write pretrain, its child finetune, and that one's 4-bit child quantize."""
    checkpoints = {label: folders[label] / "checkpoint" for label in ("pretrain", "finetune", "quantize")}
    save_tiny(checkpoints["pretrain"], architecture, tokenizer)
    base = open_checkpoint(checkpoints["pretrain"])
    save_tiny(checkpoints["finetune"], architecture, tokenizer, parent_sha256=base.sha256, seed=1)
    tuned = open_checkpoint(checkpoints["finetune"])
    model = load_model(tuned)
    with torch.no_grad():
        quantize_nearest(model, QUANTIZE)
    save_quantized(checkpoints["quantize"], model, tuned, QUANTIZE, stage="quantize")


def write(path: Path, value: Any) -> None:
    """Write JSON, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
