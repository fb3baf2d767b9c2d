"""The one training loop. It is handed what it trains (model), on what (batches), and why (objective)."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from gpt.checkpoint.resume import ResumeState, load_resume_state, save_resume_state
from gpt.dataset.loader import Batches
from gpt.optim.optimizer import Optimizer
from gpt.train.config import TrainConfig
from gpt.train.metrics import MetricSink
from gpt.train.objective import Objective
from gpt.train.progress import Progress
from gpt.train.seed import seed_step
from gpt.train.throughput import peak_flops
from gpt.train.validate import Validate

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MAX_BAD_STEPS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What a finished run reports."""

    history: list[dict[str, float]]
    """Logged rows: step, tokens, loss, lr, and val_loss where validated."""
    val_loss: float
    """Nats per token after the last step."""
    tokens: int
    """Tokens trained on."""
    elapsed_s: float
    """Training seconds over all attempts."""


def train(
    model: nn.Module,
    batches: Batches,
    objective: Objective,
    config: TrainConfig,
    *,
    name: str,
    validate: Validate,
    sink: MetricSink,
    device: torch.device,
    resume_dir: Path | None = None,
    flops_per_token: float = 0.0,
) -> TrainResult:
    """Train in place; with a resume_dir, continue from its newest state and save there.

    Raises ValueError when the loss is not finite MAX_BAD_STEPS times in a row.
    """
    optimizer = Optimizer(model, config.optim, config.steps)
    dtype = DTYPES[config.dtype]
    history: list[dict[str, float]] = []
    first, spent_before = 0, 0.0
    if resume_dir is not None and (state := load_resume_state(resume_dir)) is not None:
        model.load_state_dict(state.model, strict=False)
        optimizer.load_state_tensors(state.optimizer)
        first, history, spent_before = state.step, state.history, state.elapsed_s
        print(f"{name}: resumed at step {first} of {config.steps}", flush=True)
    forward: nn.Module = torch.compile(model) if config.compile else model  # type: ignore[assignment]
    peak = peak_flops(device) if flops_per_token else 0.0
    progress = Progress(name, config.steps, first_step=first)
    started = mark = time.monotonic()
    mark_step, bad_steps = first, 0
    model.train()

    for step in range(first, config.steps):
        seed_step(config.seed, step)
        sums: dict[str, float] = {}
        for i in range(config.grad_accumulation):
            cursor = step * config.samples_per_step + i * config.micro_batch_size
            token_ids, targets = batches.batch(cursor, config.micro_batch_size)
            batch = (token_ids.to(device), targets.to(device))
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                loss, metrics = objective(forward, batch)
            (loss / config.grad_accumulation).backward()
            for key, value in metrics.items():
                sums[key] = sums.get(key, 0.0) + value / config.grad_accumulation
        grad_norm = optimizer.clip()
        lr = 0.0
        if _is_finite(sums["loss"], grad_norm):
            lr, bad_steps = optimizer.step(step), 0
        else:  # such a gradient must never reach the weights, nor so a checkpoint
            optimizer.clear()
            bad_steps += 1
            print(f"{name}: step {step + 1} skipped, loss {sums['loss']}, gradient {grad_norm}", flush=True)
            if bad_steps == MAX_BAD_STEPS:
                raise ValueError(f"optim.lr: loss not finite {MAX_BAD_STEPS} steps in a row; lower it")

        done = step + 1
        last = done == config.steps
        if last or done % config.log_every == 0 or done % config.eval_every == 0:
            tokens = done * config.batch_tokens
            row = {"step": done, "tokens": tokens, **sums, "lr": lr, "grad_norm": grad_norm}
            speed = (done - mark_step) * config.batch_tokens / (time.monotonic() - mark)
            if last or done % config.eval_every == 0:
                row["val_loss"] = validate(model)
            history.append(row)
            shown = {**row, "tokens_per_s": speed}
            if flops_per_token:
                shown["mfu"] = speed * flops_per_token / peak
            sink.log(done, shown)
            progress.show(done, shown)
            mark, mark_step = time.monotonic(), done  # validation is not training time
        if resume_dir is not None and config.checkpoint_every and done % config.checkpoint_every == 0:
            save_resume_state(
                resume_dir,
                ResumeState(
                    step=done,
                    model={n: p for n, p in model.named_parameters() if p.requires_grad},
                    optimizer=optimizer.state_tensors(),
                    history=history,
                    elapsed_s=spent_before + time.monotonic() - started,
                ),
            )

    model.eval()
    return TrainResult(
        history=history,
        val_loss=history[-1]["val_loss"],
        tokens=config.steps * config.batch_tokens,
        elapsed_s=spent_before + time.monotonic() - started,
    )


def _is_finite(*values: float) -> bool:
    """Return whether no value is NaN or infinite."""
    return all(abs(value) < float("inf") for value in values)
