"""Memorization: is a planted value continued from the words that stood before it?

`logs` plants invented personal values, scrubs them out of what is learned and keeps them with the words in
front (files/canaries.jsonl). Here a model goes on from those words, once greedily and once at temperature 1,
and a value that comes back counts. A model that never saw them should bring back none; the counter itself
is proven on one that did (benchmarks/hinglish_before_after.py). Carlini et al. 2019, arXiv 1802.08232.
"""

import json
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpt.evaluate.json_lines import numbered_lines
from gpt.evaluate.score import Score, evenly
from gpt.generate.ragged_batch import RaggedBatch
from gpt.model.transformer import Transformer
from gpt.tokenizer.chat_template import encode_prompt
from gpt.tokenizer.tokenizer import Tokenizer

FILE = "canaries.jsonl"
MODES = {"greedy": 0.0, "sampled": 1.0}
"""Name of a way to go on -> its temperature."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Canary:
    """One planted value and where it stood."""

    value: str
    prefix: str
    """What its message or log line says before it."""
    role: str | None
    """Who says that in a chat; None: it stands in a payment log."""
    turns: tuple[dict[str, str], ...]
    """The chat's messages before that message."""


def read_canaries(folder: Path, limit: int) -> list[Canary]:
    """Read `limit` canaries (0: all), evenly spread; none when the file is not there.

    Raises ValueError that names the file and line of one without value or prefix.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    canaries = []
    for number, line in numbered_lines(path):
        try:
            row: dict[str, Any] = json.loads(line)
            if not normalized(row["value"]):
                raise ValueError("the value has neither letters nor digits")
            canaries.append(
                Canary(value=row["value"], prefix=row["prefix"], role=row["role"], turns=tuple(row["turns"]))
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: not a canary ({error}); run `dvc repro -f logs`") from None
    return evenly(canaries, limit)


def memorization_scores(
    model: Transformer,
    tokenizer: Tokenizer,
    canaries: Sequence[Canary],
    *,
    n_tokens: int,
    seed: int,
    batch_tokens: int,
) -> list[Score]:
    """Return canaries_greedy and canaries_sampled: how many values came back, with the binomial error."""
    room = model.config.max_seq_len - n_tokens
    prompts = [encode_prefix(tokenizer, canary)[-room:] for canary in canaries]
    scores = []
    for mode, temperature in MODES.items():
        texts = go_on(
            model, tokenizer, prompts, n_tokens, temperature=temperature, seed=seed, batch_tokens=batch_tokens
        )
        n = len(canaries)
        hits = sum(is_reproduced(c.value, text) for c, text in zip(canaries, texts, strict=True))
        stderr = math.sqrt(hits * (n - hits) / n)
        scores.append(Score(metric=f"canaries_{mode}", value=hits, stderr=stderr, n=n, unit="canary"))
    return scores


def encode_prefix(tokenizer: Tokenizer, canary: Canary) -> list[int]:
    """Return the tokens in front of a value as training would see them: in a chat's turn, or in a new text.

    A space at the end is left to the model: tokens of a word begin with the space before it.
    """
    prefix = tokenizer.encode(canary.prefix.removesuffix(" "))
    if canary.role is None:
        return [tokenizer.end_of_text, *prefix]
    return [*encode_prompt(tokenizer, canary.turns, canary.role), *prefix]


def normalized(text: str) -> str:
    """Return letters and digits alone, lower case, digits of any script as 0..9.

    >>> normalized("98765-४३२१ A@b")
    '987654321ab'
    """
    ascii_digits = "".join(str(unicodedata.digit(c)) if c.isdecimal() else c for c in text)
    return re.sub(r"[\W_]+", "", ascii_digits.lower())


def is_reproduced(value: str, text: str) -> bool:
    """Return whether a value stands in the text, whatever separates its characters."""
    return normalized(value) in normalized(text)


@torch.inference_mode()
def go_on(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    n_tokens: int,
    *,
    temperature: float,
    seed: int,
    batch_tokens: int,
) -> list[str]:
    """Return n_tokens of text behind each prompt; nothing ends it early. Temperature 0 is greedy.

    Prompts of like length share a batch (gpt/generate/ragged_batch.py).
    """
    device, order = model.embed.weight.device, sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    generator = torch.Generator(device).manual_seed(seed)
    texts = [""] * len(prompts)
    while order:
        count = max(1, batch_tokens // len(prompts[order[0]]))
        batch, order = order[:count], order[count:]
        ragged = RaggedBatch(model, [prompts[i] for i in batch], n_tokens)
        for place, logits in ragged.steps():
            if temperature:
                p = (logits / temperature).softmax(dim=-1)
                chosen = torch.multinomial(p, 1, generator=generator)[:, 0]  # (B,)
            else:
                chosen = logits.argmax(dim=-1)
            ragged.ids[:, place] = torch.where(place < ragged.lengths, ragged.ids[:, place], chosen)
        for row, i in zip(ragged.ids.tolist(), batch, strict=True):
            written = row[len(prompts[i]) : len(prompts[i]) + n_tokens]
            texts[i] = tokenizer.decode(written)
    return texts
