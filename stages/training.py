"""What the stages that train share: the shards, the validation, and what a finished run leaves behind."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from gpt.checkpoint.save_load import model_tensors, save_checkpoint
from gpt.config import fingerprint
from gpt.dataset.loader import Batches, TokenWindows
from gpt.dataset.packed_documents import PackedDocuments
from gpt.dataset.shard_set import TokenStream, open_shards
from gpt.model.flops import count_parameters, training_flops_per_token
from gpt.model.transformer import Transformer
from gpt.parallel.choose_engine import choose_engine
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.tokenizer.vocab_file import load_tokenizer
from gpt.train.config import TrainConfig
from gpt.train.loop import TrainResult, train
from gpt.train.objective import language_objective, mask_token
from gpt.train.precision import DTYPES
from gpt.train.samples import text_samples
from gpt.train.validate import Validate, fixed_validation
from stages.runner import StageRun

Packing = Literal["windows", "documents"]
"""A training sample: a window of the token stream wherever it falls, or whole documents and padding."""
CURVE_COLUMNS = ("step", "tokens", "loss", "val_loss", "lr", "grad_norm")


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What a language-model stage trains and validates on."""

    tokenizer: Tokenizer
    tokenizer_dir: Path
    train: Batches
    validate: Validate
    val_bytes_per_token: float


def open_corpus(run: StageRun, config: TrainConfig, packing: Packing, device: torch.device) -> Corpus:
    """Open the shards and the tokenizer that made them; validation is over windows in any case."""
    tokenizer = load_tokenizer(run.inputs["tokenizer"])
    train_tokens = open_shards(run.inputs["shards"], "train", tokenizer.fingerprint)
    val_tokens = open_shards(run.inputs["shards"], "val", tokenizer.fingerprint)
    val = TokenWindows(val_tokens, config.seq_len, seed=0)
    n_bytes = len(tokenizer.decode_bytes(val_tokens[:].tolist()))
    return Corpus(
        tokenizer=tokenizer,
        tokenizer_dir=run.inputs["tokenizer"],
        train=_training_batches(train_tokens, packing, config, run.name, tokenizer.end_of_text),
        validate=fixed_validation(
            val,
            config.eval_batches,
            config.micro_batch_size,
            device,
            DTYPES[config.dtype],
            mask_token(config, tokenizer.end_of_text),
            run.group,
        ),
        val_bytes_per_token=n_bytes / len(val_tokens),
    )


def _training_batches(
    tokens: TokenStream, packing: Packing, config: TrainConfig, name: str, end_of_text: int
) -> Batches:
    if packing == "windows":
        return TokenWindows(tokens, config.seq_len, config.seed)
    packed = PackedDocuments(tokens, tokens.document_starts, config.seq_len, config.seed, padding=end_of_text)
    print(
        f"{name}: {packed.n_documents:,} documents, {len(packed.piece_starts):,} pieces in "
        f"{packed.shuffle.n:,} rows of {config.seq_len + 1} tokens, {packed.padding_share:.2%} padding",
        flush=True,
    )
    return packed


def train_language_model(
    model: Transformer, corpus: Corpus, config: TrainConfig, run: StageRun, device: torch.device
) -> TrainResult:
    """Train on the corpus with the objective that the architecture calls for, on the ranks of the stage."""
    objective = language_objective(
        config, is_mixture=model.config.n_experts > 0, end_of_text=corpus.tokenizer.end_of_text
    )
    return train(
        model,
        corpus.train,
        objective,
        config,
        name=run.name,
        validate=corpus.validate,
        sink=run.sink,
        device=device,
        resume_dir=run.resume_dir,
        flops_per_token=training_flops_per_token(model.config, config.seq_len),
        sample=text_samples(corpus.tokenizer, config, device) if config.sample_every else None,
        engine=None if run.group is None else choose_engine(run.machine.parallel, run.group),
    )


def save_trained(
    result: TrainResult,
    corpus: Corpus,
    run: StageRun,
    config: object,
    parent_sha256: str | None = None,
) -> dict[str, Any]:
    """Write checkpoint/ and curve.csv; return the metrics of every trained model; on rank 0 alone."""
    model = result.model
    if model is None:
        return {}
    assert isinstance(model, Transformer)
    save_checkpoint(
        run.out / "checkpoint",
        model_tensors(model),
        model.config,
        stage=run.name,
        tokenizer_dir=corpus.tokenizer_dir,
        tokenizer_fingerprint=corpus.tokenizer.fingerprint,
        config_fingerprint=fingerprint(config),
        parent_sha256=parent_sha256,
    )
    write_curve(run.out / "curve.csv", result)
    count = count_parameters(model.config)
    return {
        "val_loss": round(result.val_loss, 4),
        "val_bpb": round(result.val_loss / math.log(2) / corpus.val_bytes_per_token, 4),
        "parameters": count.total,
        "active_parameters": count.active,
        "stopped_by": result.stopped_by,
        "train_steps": result.steps,
        "train_tokens": result.tokens,
        "train_s": round(result.elapsed_s, 1),
        "tokens_per_s": round(result.tokens / result.elapsed_s),
    }


def write_curve(path: Path, result: TrainResult) -> None:
    """Write the logged rows; a row without a validation leaves its cell empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CURVE_COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(result.history)
