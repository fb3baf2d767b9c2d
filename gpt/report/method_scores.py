"""One model in several precisions, measured alike: quality beside the float model, bytes, time of a token.

Differences to the float model are paired: both read the same windows and items, so most of what makes a
window hard cancels. Time is wall time and varies; everything else repeats.
"""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gpt.evaluate.hellaswag import find_hellaswag, hellaswag_item, read_hellaswag
from gpt.evaluate.multiple_choice import Item, choice_scores, encode_items, item_nats
from gpt.evaluate.perplexity import cut_windows, token_bytes
from gpt.evaluate.score import ratio_score
from gpt.evaluate.token_nats import token_nats
from gpt.model.kv_cache import KVCache
from gpt.model.transformer import Transformer
from gpt.report.config import QuantizeReportConfig
from gpt.tokenizer.tokenizer import Tokenizer

RULE = "acc_norm_char"
"""How HellaSwag's answers are chosen: lm-eval's acc_norm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What the models are measured on."""

    windows: list[np.ndarray]
    bytes_of: np.ndarray
    """UTF-8 bytes of each token id."""
    items: list[Item]
    tokenizer: Tokenizer
    batch_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What one model made of the material."""

    nats: list[float]
    """Of each window."""
    right: list[float]
    """1 for each item that it answers rightly."""


def prepare(config: QuantizeReportConfig, tokenizer: Tokenizer, val: Any, files: Path) -> Material:
    """Cut windows of the validation tokens and read the items, if they were fetched."""
    path = find_hellaswag(files) if config.n_hellaswag else None
    records = read_hellaswag(path, config.n_hellaswag) if path else []
    return Material(
        windows=cut_windows(val, config.seq_len, config.n_windows),
        bytes_of=token_bytes(tokenizer),
        items=[hellaswag_item(record, "lm_eval") for record in records],
        tokenizer=tokenizer,
        batch_tokens=config.batch_tokens,
    )


def read_material(model: Transformer, material: Material) -> Reading:
    """Let a model read windows and items."""
    samples = [(window.tolist(), [True] * len(window)) for window in material.windows]
    nats = [float(n.double().sum()) for n in token_nats(model, samples, material.batch_tokens)]
    right: list[float] = []
    if material.items:
        encoded = encode_items(material.tokenizer, material.items, model.config.max_seq_len)
        answers = item_nats(model, material.items, encoded, material.batch_tokens)
        right = [float(choice_scores("", [answer])[RULE].value or 0) for answer in answers]
    return Reading(nats=nats, right=right)


def score(reading: Reading, base: Reading, material: Material) -> dict[str, Any]:
    """Return a model's figures, and their differences to the float model's with paired standard errors."""
    tokens = [len(window) - 1 for window in material.windows]
    sizes = [int(material.bytes_of[window[1:]].sum()) for window in material.windows]
    loss = ratio_score("loss", reading.nats, tokens, "window")
    bits = ratio_score("bits_per_byte", [n / math.log(2) for n in reading.nats], sizes, "window")
    more = ratio_score(
        "rise", [a - b for a, b in zip(reading.nats, base.nats, strict=True)], tokens, "window"
    )
    assert loss.value is not None
    assert more.value is not None
    rise, perplexity = math.exp(more.value), math.exp(loss.value)
    row: dict[str, Any] = {
        "perplexity": perplexity,
        "perplexity_stderr": None if loss.stderr is None else perplexity * loss.stderr,
        "bits_per_byte": bits.value,
        "bits_per_byte_stderr": bits.stderr,
        "rise": rise - 1,
        "rise_stderr": None if more.stderr is None else rise * more.stderr,
        "windows": len(tokens),
        "tokens": sum(tokens),
        "items": len(reading.right),
    }
    if reading.right:
        ones = [1] * len(reading.right)
        paired = [a - b for a, b in zip(reading.right, base.right, strict=True)]
        right, change = (ratio_score("", values, ones, "item") for values in (reading.right, paired))
        row |= {"hellaswag": right.value, "hellaswag_stderr": right.stderr}
        row |= {"hellaswag_change": change.value, "hellaswag_change_stderr": change.stderr}
    return row


def memory_bytes(model: nn.Module) -> int:
    """Return the bytes of the storages that a model in memory holds, each once, whatever its tensors show."""
    tensors = [*model.parameters(), *model.buffers()]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


@torch.inference_mode()
def decode_times(
    models: Mapping[str, Transformer], prompt: Sequence[int], n_tokens: int, rounds: int
) -> dict[str, float]:
    """Return each model's milliseconds for one token at batch 1, greedy: the median of rounds' medians.

    The models take turns.
    """
    medians: dict[str, list[float]] = {name: [] for name in models}
    for number in range(rounds):
        names = list(models) if number % 2 else list(models)[::-1]
        for name in names:
            medians[name].append(1e3 * statistics.median(_decode(models[name], prompt, n_tokens)))
    return {name: round(statistics.median(times), 4) for name, times in medians.items()}


def _decode(model: Transformer, prompt: Sequence[int], n_tokens: int) -> list[float]:
    """Return the seconds of each decoded token behind a prompt."""
    device = model.embed.weight.device
    cache = KVCache(model.config, 1, device=device)
    token = model(torch.tensor([list(prompt)], device=device), cache)[:, -1:].argmax(dim=-1)  # (1, 1)
    seconds = []
    for _ in range(n_tokens):
        started = time.perf_counter()
        token = model(token, cache)[:, -1:].argmax(dim=-1)
        token.item()  # waits for a GPU
        seconds.append(time.perf_counter() - started)
    return seconds
