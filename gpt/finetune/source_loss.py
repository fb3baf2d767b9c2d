"""Held-out loss for each source of the logs by itself: what fine-tuning gained where, and what it cost."""

from collections import defaultdict
from pathlib import Path

import torch
from torch import nn

from gpt.dataset.loader import PackedSequences
from gpt.dataset.packing import pack_sequences
from gpt.finetune.config import FinetuneConfig
from gpt.finetune.counted import counted_validation
from gpt.finetune.sft import encode_record, read_records
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.train.objective import mask_token
from gpt.train.precision import DTYPES


def source_losses(
    model: nn.Module, tokenizer: Tokenizer, path: Path, config: FinetuneConfig, device: torch.device
) -> dict[str, float]:
    """Return nats per learned token of each source's records in a log file, by source.

    All sources together get about train.eval_batches micro batches, one each at least.
    """
    train = config.train
    by_source: dict[str, list[dict]] = defaultdict(list)
    for record in read_records(path):
        if record["kind"] == "chat" or config.data.learn_payment_logs:
            by_source[record["source"]].append(record)
    losses = {}
    for source, records in sorted(by_source.items()):
        samples = [encode_record(tokenizer, record) for record in records]
        if not any(any(learned[1 : train.seq_len + 1]) for _, learned in samples):
            continue  # its first answer lies behind the context
        rows, learned = pack_sequences(samples, train.seq_len + 1, tokenizer.end_of_text)
        size = min(train.micro_batch_size, len(rows))
        n_batches = min(len(rows) // size, max(1, train.eval_batches // len(by_source)))
        validate = counted_validation(
            PackedSequences(rows, learned, seed=0),
            n_batches,
            size,
            device,
            DTYPES[train.dtype],
            mask_token(train, tokenizer.end_of_text),
        )
        losses[source] = validate(model)
    return losses


def before_and_after(base: dict[str, float], tuned: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return both models' losses by source, rounded for people."""
    return {
        source: {"base": round(base[source], 4), "tuned": round(loss, 4)} for source, loss in tuned.items()
    }
