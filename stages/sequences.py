"""Calibration and held-out sequences for the stages that quantize: logs and corpus in one mix."""

import numpy as np
import torch
from torch import Tensor

from gpt.dataset.shard_set import open_shards
from gpt.evaluate.log_loss import read_log_sequences
from gpt.quantize.calibrate import draw_sequences
from gpt.quantize.config import QuantizeConfig
from gpt.tokenizer.vocab_file import load_tokenizer
from stages.runner import StageRun


def draw_mix(config: QuantizeConfig, run: StageRun, split: str, n: int) -> Tensor:
    """Draw n sequences (n, T) of a split from logs and shards, config.log_fraction of them from the logs."""
    tokenizer = load_tokenizer(run.inputs["checkpoint"])
    tokens = open_shards(run.inputs["shards"], split, tokenizer.fingerprint)
    logs = [record.ids for record in read_log_sequences(run.inputs["logs"] / f"{split}.jsonl", tokenizer)]
    n_logs = round(n * config.log_fraction)
    generator = torch.Generator().manual_seed(config.seed)
    return draw_sequences([(np.concatenate(logs), n_logs), (tokens, n - n_logs)], config.seq_len, generator)
