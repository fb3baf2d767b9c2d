"""The one training loop, on one rank or many. It is handed what it trains, on what, why, and by what engine.

A run is a function of its dials: killed, stopped or out of budget, the same call goes on to the same
weights. Nothing a step depends on is kept anywhere but in the resume state.
"""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from gpt.checkpoint.resume import check_room, load_resume_state
from gpt.dataset.loader import Batches
from gpt.optim.optimizer import Optimizer
from gpt.parallel.engine import Engine, WholeModel
from gpt.parallel.process_group import ProcessGroup
from gpt.train.budget import Budget
from gpt.train.config import TrainConfig
from gpt.train.guard import Guard
from gpt.train.metrics import LOG, JsonlSink, MetricSink, Tee
from gpt.train.objective import Objective
from gpt.train.precision import DTYPES, Precision
from gpt.train.prefetch import Prefetch, micro_batches
from gpt.train.progress import Progress
from gpt.train.ranks import agree, begin_step, check_dials, mean_metrics, own_batches
from gpt.train.saves import Saves
from gpt.train.state import capture, most_bytes, own_reader, restore, run_fingerprint
from gpt.train.step import accumulate_gradients
from gpt.train.stop_signal import StopSignals
from gpt.train.throughput import peak_flops
from gpt.train.validate import Validate

Sample = Callable[[nn.Module], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What a finished run reports, the same on every rank but for the model."""

    model: nn.Module | None
    """Trained, whole, in evaluation mode; on rank 0 alone. With one rank the one that was handed in."""
    history: list[dict[str, float]]
    """Logged rows: step, tokens, loss, lr, and val_loss where validated; without what is not finite."""
    val_loss: float
    """Nats per token after the last step."""
    steps: int
    """Optimizer steps done, skipped ones included."""
    tokens: int
    """Tokens trained on."""
    elapsed_s: float
    """Training seconds over all attempts."""
    stopped_by: Literal["steps", "budget"]
    """budget: fewer steps than the dials say, and a learning rate that has not come down."""


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
    sample: Sample | None = None,
    engine: Engine | None = None,
) -> TrainResult:
    """Train; with a resume_dir, continue from its newest state and save there.

    Without an engine, in place in this process. With one, every rank makes this call with the same arguments.
    With a resume_dir a SIGTERM or Ctrl-C ends the step, saves, and raises SystemExit with the shell's code.
    Raises ValueError when steps are bad MAX_BAD_STEPS times in a row (gpt/train/guard.py), OSError when
    the disk cannot hold the checkpoints or the last one cannot be written.
    """
    if config.sample_every and sample is None:
        raise ValueError(f"sample_every: got {config.sample_every}, but {name} writes no samples; write 0")
    _set_recompute(model, config.recompute_blocks)
    run, size = run_fingerprint(model, config), most_bytes(model)
    engine = engine or WholeModel(ProcessGroup(0, 1, 0, device))
    group = engine.group
    check_dials(config, group.world_size)
    engine.shard(model, DTYPES[config.dtype])
    optimizer = Optimizer(model, config.optim, config.steps)
    precision, guard = Precision(config.dtype, device), Guard(config.spike_sigma)
    history: list[dict[str, float]] = []
    first = 0
    if (
        resume_dir is not None
        and (state := load_resume_state(resume_dir, own_reader(engine, model), group)) is not None
    ):
        restore(state, run, model, optimizer, guard, precision)
        first, history = state.step, state.history
    forward: nn.Module = torch.compile(model) if config.compile else model  # type: ignore[assignment]
    peak = group.world_size * peak_flops(device) if flops_per_token else 0.0
    progress = Progress(name, config.steps, first_step=first, is_on=group.rank == 0)
    if first:
        progress.tell(f"resumed at step {first} of {config.steps}")
    done, row, is_out_of_budget = first, dict[str, float](), False
    account_dir = resume_dir if group.rank == 0 else None

    with ExitStack() as stack:
        if resume_dir is not None:
            resume_dir.mkdir(parents=True, exist_ok=True)
            if config.checkpoint_every:
                check_room(resume_dir, size)
        if account_dir is not None:
            sink = Tee(stack.enter_context(closing(JsonlSink(account_dir / LOG))), sink)
        stop = stack.enter_context(StopSignals(is_on=resume_dir is not None))
        budget = Budget(config, account_dir)
        saves = stack.enter_context(Saves(resume_dir, engine, budget, progress, sink))
        own = own_batches(batches, group)
        ahead = stack.enter_context(closing(Prefetch(own, micro_batches(config, first), device)))
        stack.enter_context(group.naming_losses())
        mark, mark_step = time.monotonic(), first
        model.train()

        for step in range(first, config.steps):
            begin_step(group, config.seed, step)
            metrics = accumulate_gradients(forward, ahead, objective, config, step, precision)
            precision.unscale(optimizer)
            grad_norm = optimizer.clip(engine.clip)
            values = mean_metrics(group, metrics)  # a GPU waits here, once a step
            reason = guard.judge(values["loss"], grad_norm, may_overflow=precision.may_overflow())
            done, lr = step + 1, 0.0
            if reason is None:
                lr = optimizer.step(step)
            else:  # such a gradient must never reach the weights, nor so a checkpoint
                optimizer.clear()
                cursor = step * config.samples_per_step
                samples = f"samples {cursor}..{cursor + config.samples_per_step - 1}"
                progress.say(f"{name}: step {done} skipped, {samples}: {reason}")
                sink.log(done, {"skipped_cursor": cursor})
            precision.update()

            is_last = done == config.steps
            validates = is_last or done % config.eval_every == 0
            row = {"step": done, "tokens": done * config.batch_tokens, **values, "lr": lr}
            row = {key: x for key, x in (row | {"grad_norm": grad_norm}).items() if math.isfinite(x)}
            if validates or done % config.log_every == 0:
                speed = (done - mark_step) * config.batch_tokens / (time.monotonic() - mark)
                if validates:
                    row["val_loss"] = validate(model)
                history.append(row)
                shown = {**row, "tokens_per_s": speed}
                if flops_per_token:
                    peak = max(peak, speed * flops_per_token)  # one measured on a busy machine is too low
                    shown["mfu"] = speed * flops_per_token / peak
                if config.dollars_per_hour:
                    shown["dollars"] = budget.dollars()
                sink.log(done, shown)
                progress.show(done, shown)
                mark, mark_step = time.monotonic(), done  # validation is not training time
            if sample is not None and config.sample_every and done % config.sample_every == 0:
                paused = time.monotonic()
                if (whole := engine.whole(device)) is not None:
                    text = sample(whole)
                    progress.say(text)
                    sink.log_text(f"samples/step-{done:07d}.txt", text + "\n")
                mark += time.monotonic() - paused

            signal, is_spent = agree(group, stop.received, budget.is_spent())
            is_out_of_budget = not is_last and is_spent
            is_stopping = bool(signal) or is_out_of_budget
            if is_stopping or (config.checkpoint_every and done % config.checkpoint_every == 0):
                saves.start(capture(done, run, model, optimizer, guard, precision, history))
            if is_stopping:
                saves.finish()
                break
            saves.poll(done)

        signal, _ = agree(group, stop.received, False)
        if is_out_of_budget and not signal:
            progress.tell(f"its budget is spent after step {done} of {config.steps}")
            if "val_loss" not in row:  # not in the saved history: a larger budget never sees this row
                row["val_loss"] = validate(model)
                if history[-1:] != [row]:
                    history.append(row)
                sink.log(done, {"val_loss": row["val_loss"]})
        if signal:
            progress.tell(f"stopped after step {done}; the same command resumes")
            raise SystemExit(128 + signal)

    trained = engine.whole(torch.device("cpu"))
    return TrainResult(
        model=None if trained is None else trained.eval(),
        history=history,
        val_loss=history[-1]["val_loss"],
        steps=done,
        tokens=done * config.batch_tokens,
        elapsed_s=budget.spent_s(),
        stopped_by="budget" if is_out_of_budget else "steps",
    )


def _set_recompute(model: nn.Module, is_on: bool) -> None:
    """Tell the model whether to recompute its blocks. Raises ValueError when it cannot."""
    if hasattr(model, "recompute_blocks"):
        model.recompute_blocks = is_on  # type: ignore[assignment]
    elif is_on:
        raise ValueError(f"recompute_blocks: {type(model).__name__} cannot do it; write false")
