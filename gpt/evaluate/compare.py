"""Models side by side: the same samples for each, one row a figure.

A row of scores.json is `{model, metric, value, stderr, n, unit, chance, absent}`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gpt.dataset.shard_set import TokenStream
from gpt.evaluate.config import EvaluateConfig
from gpt.evaluate.continuation import continuation_items
from gpt.evaluate.held_out_words import bits_per_byte, read_words
from gpt.evaluate.hellaswag import REPORTED, find_hellaswag, hellaswag_item, read_hellaswag
from gpt.evaluate.intents import IntentSet, intent_scores, read_intents
from gpt.evaluate.log_loss import LogSequence, log_scores, read_log_sequences
from gpt.evaluate.memorization import Canary, memorization_scores, read_canaries
from gpt.evaluate.multiple_choice import Item, choice_scores, encode_items, item_nats
from gpt.evaluate.perplexity import corpus_scores, cut_windows, token_bytes
from gpt.evaluate.score import Score, absent_score, evenly
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer

HEADLINES = {
    "bpb_pretrain": ("pretrain", "bits_per_byte"),
    "bpb_dense": ("scale-dense", "bits_per_byte"),
    "bpb_moe": ("scale-moe", "bits_per_byte"),
    "bpb_tuned": ("finetune", "bits_per_byte"),
    "words_bpb_base": ("pretrain", "words_hinglish"),
    "words_bpb_tuned": ("finetune", "words_hinglish"),
    "bpb_quantized": ("quantize", "bits_per_byte"),
    "logs_loss_base": ("pretrain", "logs_loss"),
    "logs_loss_tuned": ("finetune", "logs_loss"),
    "logs_loss_quantized": ("quantize", "logs_loss"),
    "intent_acc_base": ("pretrain", "intent_banking77_train_acc"),
    "intent_acc_tuned": ("finetune", "intent_banking77_train_acc"),
    "canaries_tuned": ("finetune", "canaries_sampled"),
    "continuation_acc_pretrain": ("pretrain", "continuation_acc_norm_char"),
    "continuation_acc_dense": ("scale-dense", "continuation_acc_norm_char"),
    "hellaswag_pretrain": ("pretrain", "hellaswag_lm_eval_acc_norm_char"),
    "hellaswag_dense": ("scale-dense", "hellaswag_lm_eval_acc_norm_char"),
}
"""The few figures that `dvc exp show` has room for: name there -> (model, metric) of scores.json.

A name in _base is of the model that was fine-tuned, whichever that is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceTask:
    """Items of one multiple-choice task, or the reason why there are none."""

    name: str
    items: list[Item]
    rules: tuple[str, ...]
    """Which of multiple_choice's rules are reported."""
    absent: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """Everything the models are measured on, prepared once."""

    config: EvaluateConfig
    tokenizer: Tokenizer
    windows: list[np.ndarray]
    logs: list[LogSequence]
    tasks: list[ChoiceTask]
    log_file: Path
    intents: list[IntentSet]
    canaries: list[Canary]


def prepare(
    config: EvaluateConfig, tokenizer: Tokenizer, val: TokenStream, logs: Path, files: Path
) -> Benchmark:
    """Cut windows, choose records and build items; `logs` and `files` are the stages' folders."""
    return Benchmark(
        config=config,
        tokenizer=tokenizer,
        windows=cut_windows(val, config.seq_len, config.n_windows),
        logs=evenly(read_log_sequences(logs / "val.jsonl", tokenizer), config.n_logs),
        tasks=[_continuation(config, tokenizer, val), *_hellaswag(config, files)],
        log_file=logs / "val.jsonl",
        intents=read_intents(logs, config.n_intents) if config.n_intents else [],
        canaries=read_canaries(logs, config.n_canaries) if config.n_canaries else [],
    )


def evaluate_model(model: Transformer, benchmark: Benchmark) -> list[Score]:
    """Measure one model as a language model; raises ValueError when a window does not fit its context."""
    config, max_seq_len = benchmark.config, model.config.max_seq_len
    if config.seq_len > max_seq_len:
        raise ValueError(f"evaluate.seq_len: {config.seq_len} is more than max_seq_len {max_seq_len}")
    take_fast_attention(model)
    scores = corpus_scores(model, benchmark.windows, token_bytes(benchmark.tokenizer), config.batch_tokens)
    scores += log_scores(model, benchmark.logs, max_seq_len, config.batch_tokens)
    for task in benchmark.tasks:
        scores += _choose(model, benchmark, task)
    return scores


def evaluate_product(model: Transformer, benchmark: Benchmark, *, as_chat: bool) -> list[Score]:
    """Measure what only a model on the road from base to product is asked: words, intents and canaries.

    `as_chat` says that the model knows the chat template.
    """
    config, tokenizer = benchmark.config, benchmark.tokenizer
    limit = model.config.max_seq_len
    words = read_words(benchmark.log_file, tokenizer, config.n_logs, limit, as_chat=as_chat)
    groups = bits_per_byte(model, tokenizer, words, config.batch_tokens)
    scores = [
        replace(score, metric=f"words_{group.removeprefix('language ')}")
        for group, score in groups.items()
        if not group.startswith("source")
    ]
    for intents in benchmark.intents:
        scores += intent_scores(model, tokenizer, intents, as_chat=as_chat, batch_tokens=config.batch_tokens)
    if benchmark.canaries:
        scores += memorization_scores(
            model,
            tokenizer,
            benchmark.canaries,
            n_tokens=config.canary_tokens,
            seed=config.seed,
            batch_tokens=config.batch_tokens,
        )
    return scores


def take_fast_attention(model: Transformer) -> None:
    """Let a model that was trained with the reference attention be measured with PyTorch's kernel.

    The reference is the slower of two that agree (tests/tolerances.py, attention_vs_reference).
    """
    if model.config.attention_backend == "reference":
        for block in model.blocks:
            block.attention.config = replace(model.config, attention_backend="sdpa")  # type: ignore[union-attr]


def score_rows(model: str, scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Return scores as rows of scores.json."""
    return [{"model": model, **asdict(score)} for score in scores]


def headline(rows: Sequence[dict[str, Any]], base: str) -> dict[str, float]:
    """Return HEADLINES as far as they have a value: what is absent here stays absent there.

    `base` is the row of the model that was fine-tuned.
    """
    values = {(row["model"], row["metric"]): row["value"] for row in rows}
    keys = {name: (base if name.endswith("_base") else model, m) for name, (model, m) in HEADLINES.items()}
    found = {name: values.get(key) for name, key in keys.items()}
    return {name: round(value, 4) for name, value in found.items() if value is not None}


def _choose(model: Transformer, benchmark: Benchmark, task: ChoiceTask) -> list[Score]:
    """Score one task, or say for each of its metrics why it is absent."""
    reason = task.absent
    if reason is None:
        try:
            encoded = encode_items(benchmark.tokenizer, task.items, model.config.max_seq_len)
        except ValueError as error:  # a choice between cut endings would be another task
            reason = str(error)
    if reason is not None:
        return [absent_score(f"{task.name}_{rule}", reason, "item") for rule in task.rules]
    answers = item_nats(model, task.items, encoded, benchmark.config.batch_tokens)
    scores = choice_scores(task.name, answers)
    return [scores[rule] for rule in task.rules]


def _continuation(config: EvaluateConfig, tokenizer: Tokenizer, val: TokenStream) -> ChoiceTask:
    items: list[Item] = []
    reason = "evaluate.n_continuation is 0"
    if config.n_continuation:
        bounds = [*val.document_starts.tolist(), len(val)]
        # each document ends with end-of-text, which is not part of it
        texts = [tokenizer.decode(val[a : b - 1].tolist()) for a, b in pairwise(bounds)]
        items = continuation_items(
            texts,
            n_items=config.n_continuation,
            context_chars=config.context_chars,
            ending_chars=config.ending_chars,
            seed=config.seed,
        )
        reason = "no validation document is long enough for evaluate.context_chars and ending_chars"
    return ChoiceTask(
        name="continuation",
        items=items,
        rules=("acc", "acc_norm_char", "acc_norm_token"),
        absent=None if items else reason,
    )


def _hellaswag(config: EvaluateConfig, files: Path) -> list[ChoiceTask]:
    records: list[dict[str, Any]] = []
    reason = "evaluate.n_hellaswag is 0"
    if config.n_hellaswag:
        path = find_hellaswag(files)
        records = read_hellaswag(path, config.n_hellaswag) if path else []
        reason = "the set hellaswag_val was not fetched; it needs a network or a data mirror"
    return [
        ChoiceTask(
            name=f"hellaswag_{style}",
            items=[hellaswag_item(record, style) for record in records],
            rules=rules,
            absent=None if records else reason,
        )
        for style, rules in REPORTED.items()
    ]
