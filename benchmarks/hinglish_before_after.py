"""Before and after fine-tuning on the Hinglish set, over several seeds, with and without English replay.

Takes the dials of params.yaml and what `dvc repro` left in data/ and models/. Measured of the base and of
every tuned model: bits per byte of the held-out logs by source and language, the loss on English held out
from pretraining, intent accuracy, planted values brought back. One more arm learns unscrubbed lines on
purpose: its planted values must come back, or the counter counts nothing. Without --base it takes about
5 minutes on 2 quiet cores; with --base smollm2-135m about 25. --table writes docs/chapters/finetuning.md's
tables anew.
"""

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.before_after_table import rewrite_chapter
from benchmarks.result_file import write_result
from gpt.catalog.open_model import OpenModel, open_model
from gpt.config import load_section
from gpt.dataset.shard_set import open_shards
from gpt.evaluate.compare import take_fast_attention
from gpt.evaluate.held_out_words import bits_per_byte, read_words
from gpt.evaluate.intents import intent_scores, read_intents
from gpt.evaluate.memorization import Canary, is_reproduced, memorization_scores, read_canaries
from gpt.evaluate.perplexity import corpus_scores, cut_windows, token_bytes
from gpt.finetune.config import FinetuneConfig
from gpt.finetune.lora_sft import finetune_lora
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.tokenizer.vocab_file import load_tokenizer
from gpt.train.metrics import JsonlSink

PARAMS = Path("params.yaml")
LOGS, SHARDS = Path("data/logs/files"), Path("data/shard/shards")
PRETRAIN = Path("models/pretrain/checkpoint")
CPU = torch.device("cpu")
N_CONTROL = 10
"""Unscrubbed lines that the control arm learns by heart."""
CONTROL_RANK = 32
"""Of its adapters: numbers at random are much to keep."""
CANARY_TOKENS = 24
CANARY_SEED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How much is trained and measured; 0 is all there is, or the dial of params.yaml."""

    reference: str
    as_chat: bool
    """Whether the base knows the chat template already."""
    steps: int
    seq_len: int
    micro_batch_size: int
    lr: float
    control_steps: int
    control_lr: float
    n_words: int
    """Held-out records of each source."""
    n_windows: int
    n_intents: int
    n_canaries: int
    batch_tokens: int
    replay: float = 0.0
    """Share of replay in the arm that has it."""


PLANS = {
    "pretrain": Plan(
        reference=str(PRETRAIN), as_chat=False, steps=0, seq_len=0, micro_batch_size=0, lr=0.0,
        control_steps=300, control_lr=5e-3, n_words=60, n_windows=192, n_intents=60, n_canaries=1000,
        batch_tokens=4096,
    ),
    "smollm2-135m": Plan(
        reference="smollm2-135m", as_chat=True, steps=40, seq_len=128, micro_batch_size=4, lr=1e-3,
        control_steps=60, control_lr=2e-3, n_words=5, n_windows=16, n_intents=20, n_canaries=10,
        batch_tokens=2048, replay=0.2,
    ),
}  # fmt: skip


def measure(
    model: Transformer, tokenizer: Tokenizer, plan: Plan, windows: list[np.ndarray], *, as_chat: bool
) -> dict[str, Any]:
    """Return every figure of one model."""
    take_fast_attention(model)
    limit = min(model.config.max_seq_len, 256)
    words = read_words(LOGS / "val.jsonl", tokenizer, plan.n_words, limit, as_chat=as_chat)
    scores = bits_per_byte(model, tokenizer, words, plan.batch_tokens)
    figures = {f"bits_per_byte {group}": asdict(score) for group, score in scores.items()}
    for score in corpus_scores(model, windows, token_bytes(tokenizer), plan.batch_tokens):
        figures[f"english {score.metric}"] = asdict(score)
    for intents in read_intents(LOGS, plan.n_intents):
        for score in intent_scores(
            model, tokenizer, intents, as_chat=as_chat, batch_tokens=plan.batch_tokens
        ):
            figures[score.metric] = asdict(score)
    for score in canary_scores(model, tokenizer, read_canaries(LOGS, plan.n_canaries), plan):
        figures[score["metric"]] = score
    return figures


def canary_scores(
    model: Transformer, tokenizer: Tokenizer, canaries: list[Canary], plan: Plan
) -> list[dict[str, Any]]:
    """Return how many planted values come back, greedily and sampled."""
    dials = {"n_tokens": CANARY_TOKENS, "seed": CANARY_SEED, "batch_tokens": plan.batch_tokens}
    return [asdict(score) for score in memorization_scores(model, tokenizer, canaries, **dials)]


def tune(opened: OpenModel, logs: Path, config: FinetuneConfig) -> tuple[Transformer, dict[str, Any]]:
    """Fine-tune a copy of the base; return it and what it took."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = finetune_lora(
            copy.deepcopy(opened.model),
            opened.tokenizer,
            logs,
            config,
            sink=JsonlSink(Path(folder) / "log.jsonl"),
            device=CPU,
            resume_dir=Path(folder),
        )
    cost = {
        "trainable": result.trainable,
        "parameters": result.total,
        "counts": result.counts,
        "seconds": round(time.perf_counter() - begin, 1),
    }
    return result.model.eval(), cost


def control(opened: OpenModel, config: FinetuneConfig, plan: Plan) -> dict[str, Any]:
    """Learn some planted lines unscrubbed, many times over, and count them and the others that come back."""
    canaries = read_canaries(LOGS, plan.n_canaries)
    encode, room = opened.tokenizer.encode, config.train.seq_len - CANARY_TOKENS
    # one value behind each beginning, in lines of which a row cuts nothing off
    lines = {c.prefix: c for c in canaries if c.role is None and len(encode(c.prefix + c.value)) <= room}
    learned = sorted(lines.values(), key=lambda c: (-len(c.prefix), c.prefix))[:N_CONTROL]
    text = "".join(c.prefix + c.value for c in learned)  # a line's beginning may hold another value
    others = [c for c in canaries if not is_reproduced(c.value, text)]
    optim = replace(config.train.optim, lr=plan.control_lr)
    train = replace(config.train, steps=plan.control_steps, micro_batch_size=2, optim=optim)
    data = replace(config.data, replay_fraction=0.0)
    rank = CONTROL_RANK
    config = replace(config, train=train, data=data, lora_rank=rank, lora_alpha=2.0 * rank)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            json.dumps({"kind": "payment_log", "text": c.prefix + c.value, "source": "control"})
            for c in learned
        ]
        # one line repeated fills the rows of a batch; the validation file is only asked for
        for name, text in (("train", "\n".join(rows * 8)), ("val", "\n".join(rows))):
            (Path(folder) / f"{name}.jsonl").write_text(text + "\n", encoding="utf-8")
        model, cost = tune(opened, Path(folder), config)
    take_fast_attention(model)
    return {
        "n_learned": len(learned),
        "steps": plan.control_steps,
        "learned": canary_scores(model, opened.tokenizer, learned, plan),
        "others": canary_scores(model, opened.tokenizer, others, plan),
        **cost,
    }


def english_windows(opened: OpenModel, plan: Plan) -> list[np.ndarray]:
    """Return windows of pretraining's validation text in the base's own tokens."""
    tokenizer = load_tokenizer(PRETRAIN)
    tokens: Any = open_shards(SHARDS, "val", tokenizer.fingerprint)
    if opened.tokenizer.fingerprint != tokenizer.fingerprint:
        text = tokenizer.decode(tokens[: plan.n_windows * 2000].tolist()).replace("<|endoftext|>", "\n")
        tokens = np.array(opened.tokenizer.encode(text))
    return cut_windows(tokens, plan.seq_len or 256, plan.n_windows)


def dials_of(plan: Plan, steps: int) -> FinetuneConfig:
    """Return the fine-tuning dials: those of params.yaml, with the plan's changes."""
    config = load_section(PARAMS, "finetune", FinetuneConfig)
    train = config.train
    optim = replace(train.optim, lr=plan.lr or train.optim.lr)
    n = steps or plan.steps or train.steps
    train = replace(
        train,
        steps=n,
        seq_len=plan.seq_len or train.seq_len,
        micro_batch_size=plan.micro_batch_size or train.micro_batch_size,
        eval_every=n,
        eval_batches=1,
        checkpoint_every=n,
        optim=optim,
    )
    return replace(config, train=train)


def over_seeds(rows: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return {figure: mean and standard error over seeds} of one arm's rows."""
    summary = {}
    for name in rows[0]["figures"]:
        values = [row["figures"][name]["value"] for row in rows]
        if None not in values:
            error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
            summary[name] = {"mean": statistics.mean(values), "stderr": error, "n_seeds": len(values)}
    return summary


def main() -> None:
    """Tune and measure every arm, interleaved by seed, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", choices=sorted(PLANS), default="pretrain")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="of each fine-tuning; 0: as planned")
    parser.add_argument("--replay", type=float, default=0.0, help="share of the tokens; 0: as planned")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only write the chapter's tables anew")
    args = parser.parse_args()
    if args.table:
        rewrite_chapter()
        return
    torch.set_num_threads(args.threads)
    begin = time.perf_counter()
    plan = PLANS[args.base]
    opened = open_model(plan.reference)
    config = dials_of(plan, args.steps)
    replay = args.replay or plan.replay or config.data.replay_fraction
    windows = english_windows(opened, plan)
    base = measure(copy.deepcopy(opened.model), opened.tokenizer, plan, windows, as_chat=plan.as_chat)
    if not replay:
        raise ValueError(
            "finetune.data.replay_fraction: it is 0, so there are not two arms; type --replay 0.15"
        )
    rows: list[dict[str, Any]] = []
    for seed in range(1, args.seeds + 1):
        for arm, fraction in (("without replay", 0.0), ("with replay", replay)):
            data = replace(config.data, replay_fraction=fraction)
            dials = replace(config, data=data, train=replace(config.train, seed=seed))
            model, cost = tune(opened, LOGS, dials)
            figures = measure(model, opened.tokenizer, plan, windows, as_chat=True)
            rows.append({"arm": arm, "seed": seed, **cost, "figures": figures})
            print(f"{arm}, seed {seed}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    suffix = "" if args.base == "pretrain" else f"_{args.base.split('-')[0]}"
    result = {
        "base": args.base,
        "plan": asdict(plan),
        "replay_fraction": replay,
        "dials": {
            "lora": asdict(config.lora),
            "steps": config.train.steps,
            "batch_tokens": config.train.batch_tokens,
            "lr": config.train.optim.lr,
        },
        "threads": args.threads,
        "synthetic_note": "source generated: written by the project's own generator, not by customers",
        "before": base,
        "after": {
            arm: over_seeds([r for r in rows if r["arm"] == arm])
            for arm in dict.fromkeys(r["arm"] for r in rows)
        },
        "rows": rows,
        "control": control(opened, config, plan),
    }
    result["seconds"] = round(time.perf_counter() - begin, 1)
    write_result("hinglish_before_after", result, suffix=suffix)
    rewrite_chapter()


if __name__ == "__main__":
    main()
