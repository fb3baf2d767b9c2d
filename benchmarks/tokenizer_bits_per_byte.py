"""What does a vocabulary do to a model of one body, trained for one number of FLOPs? Bits per byte, 3 seeds.

The body is that of the laptop profile; embedding and output projection are one tied table. A larger table
costs FLOPs in the output projection, so that fewer steps fit: a token is longer and dearer. FLOPs are 6 N and
attention a token, the projection in N, the lookup not (gpt/model/flops.py). Batch and context in tokens and
the rates are the same for all; nothing was tuned for any. Trained on the English text of
benchmarks/tokenizer_texts.py, with tokenizers trained on that very text (GPT-2's on its own), measured on the
same held-out bytes of novels. Every finished run is written at once: the same command goes on where it was
stopped (remove the result first when conf/laptop.yaml's pretrain section has changed). Then
`python -m benchmarks.tokenizer_chapter` writes the chapter's tables. Default: 6 tokenizers x 2 budgets x
3 seeds, on two quiet cores about 40 minutes.
"""

import argparse
import dataclasses
import itertools
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.result_file import RESULTS, command, machine
from benchmarks.tokenizer_set import SIZES, byte_tokenizer, gpt2_tokenizer, trained
from benchmarks.tokenizer_texts import english_text, novels
from gpt.config import load_section
from gpt.dataset.loader import TokenWindows
from gpt.evaluate.perplexity import corpus_scores, cut_windows, token_bytes
from gpt.model.config import ModelConfig
from gpt.model.flops import count_parameters, training_flops_per_token
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer, char_tokenizer
from gpt.train.config import TrainConfig
from gpt.train.loop import train
from gpt.train.metrics import JsonlSink
from gpt.train.objective import next_token
from stages.pretrain import PretrainConfig

PATH = RESULTS / "tokenizer_bits_per_byte.json"
NAMES = ("char", *SIZES, "GPT-2", "byte")
DEFAULT = ("char", *SIZES, "GPT-2")
PATTERN = "gpt2"
LAPTOP = load_section(Path(__file__).parents[1] / "conf/laptop.yaml", "pretrain", PretrainConfig)
SEQ_LEN, MICRO_BATCH_SIZE = LAPTOP.train.seq_len, LAPTOP.train.micro_batch_size
BATCH_TOKENS = SEQ_LEN * MICRO_BATCH_SIZE
HELD_OUT_CHARACTERS = 10_000
"""Of each novel; Shakespeare is not among them."""


def body(vocab_size: int) -> ModelConfig:
    """Return the laptop profile's model with another vocabulary."""
    return dataclasses.replace(LAPTOP.model, vocab_size=vocab_size, attention_backend="sdpa")


def dials(seed: int, steps: int) -> TrainConfig:
    """Return the laptop profile's training, `steps` long, without saves, samples or a spike guard."""
    optim = LAPTOP.train.optim
    return dataclasses.replace(
        LAPTOP.train,
        seed=seed,
        steps=steps,
        eval_every=steps,
        eval_batches=1,
        log_every=50,
        checkpoint_every=0,
        spike_sigma=0.0,
        sample_every=0,
        sample_tokens=0,
        sample_prompts=(),
        optim=dataclasses.replace(optim, warmup_steps=min(optim.warmup_steps, steps)),
    )


def steps_for(tflop: float, config: ModelConfig) -> int:
    """Return the whole steps that fit into the budget. Raises ValueError when none does."""
    steps = int(tflop * 1e12 // (training_flops_per_token(config, SEQ_LEN) * BATCH_TOKENS))
    if steps < 1:
        raise ValueError(f"--tflop: {tflop:g} is less than one step at V = {config.vocab_size}; raise it")
    return steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """Both texts as one tokenizer writes them."""

    tokenizer: Tokenizer
    tokens: np.ndarray
    """Training text, int32, an end-of-text behind each book."""
    windows: list[np.ndarray]
    """Held-out text in windows of the context's length."""
    bytes_per_token: float
    """Of the training text."""


def encode(tokenizer: Tokenizer, texts: list[str], held_out: list[str]) -> Encoded:
    """Encode the training text and the held-out one."""
    tokens, held = (
        np.concatenate(
            [np.array([*tokenizer.encode(text), tokenizer.end_of_text], dtype=np.int32) for text in part]
        )
        for part in (texts, held_out)
    )
    return Encoded(
        tokenizer=tokenizer,
        tokens=tokens,
        windows=cut_windows(held, SEQ_LEN, limit=0),
        bytes_per_token=sum(len(text.encode()) for text in texts) / len(tokens),
    )


def measure(encoded: Encoded, seed: int, tflop: float) -> dict[str, Any]:
    """Train once; return the run's sizes, costs and bits per byte."""
    config = body(encoded.tokenizer.n_vocab)
    count, flops = count_parameters(config), training_flops_per_token(config, SEQ_LEN)
    steps = steps_for(tflop, config)
    model = Transformer(config)
    init_weights(model, seed, init_std=0.02, zero_residual=False)
    sizes = token_bytes(encoded.tokenizer)
    scores: dict[str, float] = {}

    def validate(trained_model: torch.nn.Module) -> float:
        """Keep the figures over the whole held-out text; called once, behind the last step."""
        assert isinstance(trained_model, Transformer)
        scores["cpu_s"] = time.process_time() - started
        trained_model.eval()
        found = corpus_scores(trained_model, encoded.windows, sizes, BATCH_TOKENS)
        scores.update({score.metric: float(score.value or math.nan) for score in found})
        return scores["loss"]

    started = time.process_time()
    result = train(
        model,
        TokenWindows(encoded.tokens, SEQ_LEN, seed),
        next_token,
        dials(seed, steps),
        name=f"V {config.vocab_size}, seed {seed}",
        validate=validate,
        sink=JsonlSink(Path("/dev/null")),
        device=torch.device("cpu"),
    )
    return {
        "n_vocab": config.vocab_size,
        "embedding_parameters": count.embedding,
        "body_parameters": count.total - count.embedding,
        "mflop_per_token": round(flops / 1e6, 2),
        "head_share": round(6 * config.vocab_size * config.dim / flops, 4),
        "steps": result.steps,
        "tflop": round(result.tokens * flops / 1e12, 3),
        "tokens": result.tokens,
        "bytes": round(result.tokens * encoded.bytes_per_token),
        "loss": round(scores["loss"], 4),
        "bits_per_byte": round(scores["bits_per_byte"], 4),
        "cpu_s": round(scores["cpu_s"], 1),
    }


def summarize(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row a budget and tokenizer: mean over seeds, its standard error (None for one seed)."""
    rows = []
    budgets = sorted({run["budget_tflop"] for run in runs})
    for budget, name in itertools.product(budgets, NAMES):
        of_name = [run for run in runs if (run["budget_tflop"], run["tokenizer"]) == (budget, name)]
        if not of_name:
            continue
        values = [run["bits_per_byte"] for run in of_name]
        error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
        same = {key: of_name[0][key] for key in of_name[0] if key not in MEASURED}
        rows.append(
            same
            | {
                "n": len(values),
                "bits_per_byte": round(float(np.mean(values)), 4),
                "standard_error": None if error is None else round(error, 4),
                "cpu_s": round(float(np.mean([run["cpu_s"] for run in of_name])), 1),
            }
        )
    return rows


MEASURED = ("seed", "loss", "bits_per_byte", "cpu_s")
"""What differs between the seeds of one tokenizer."""


def make_tokenizer(name: str, texts: list[str], held_out: list[str], bpe: dict[str, Tokenizer]) -> Tokenizer:
    """Return a tokenizer by name; the characters are those of both texts, so that none is unknown."""
    if name == "char":
        return char_tokenizer([*texts, *held_out])
    if name == "byte":
        return byte_tokenizer(PATTERN)
    return gpt2_tokenizer() if name == "GPT-2" else bpe[name]


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tflop", type=float, nargs="*", default=[1.5, 6.0], help="training budgets, each of one run"
    )
    parser.add_argument("--train-mb", type=float, default=20.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokenizers", nargs="*", default=list(DEFAULT), choices=NAMES, metavar="NAME")
    parser.add_argument("--out", type=Path, default=PATH)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    texts = english_text(int(arguments.train_mb * 1e6))
    held_out = [text[:HELD_OUT_CHARACTERS] for text in novels(texts)]
    setting: dict[str, Any] = {
        "train_bytes": sum(len(text.encode()) for text in texts),
        "held_out_bytes": sum(len(text.encode()) for text in held_out),
        "n_novels": len(held_out),
        "pattern": PATTERN,
        "seq_len": SEQ_LEN,
        "batch_tokens": BATCH_TOKENS,
    }
    runs: list[dict[str, Any]] = []
    if arguments.out.exists():
        before = json.loads(arguments.out.read_text(encoding="utf-8"))
        if before["setting"] != setting:
            raise SystemExit(
                f"{arguments.out.name} holds runs of another setting, {before['setting']}; remove it first"
            )
        runs = before["runs"]
    bpe = trained(texts, PATTERN)
    done = {(run["seed"], run["budget_tflop"], run["tokenizer"]) for run in runs}
    encoded: dict[str, Encoded] = {}
    seeds = range(1, arguments.seeds + 1)
    for seed, budget, name in itertools.product(seeds, arguments.tflop, arguments.tokenizers):
        if (seed, budget, name) in done:
            continue
        if name not in encoded:
            encoded[name] = encode(make_tokenizer(name, texts, held_out, bpe), texts, held_out)
        found = measure(encoded[name], seed, budget)
        runs.append({"tokenizer": name, "budget_tflop": budget, "seed": seed, **found})
        print(runs[-1], flush=True)
        head = {"command": command("tokenizer_bits_per_byte"), "machine": machine(), "setting": setting}
        result = {**head, "rows": summarize(runs), "runs": runs}
        partial = arguments.out.with_suffix(".json.part")
        partial.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        partial.replace(arguments.out)


if __name__ == "__main__":
    main()
