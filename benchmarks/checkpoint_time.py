"""How long does training wait for a save? A model of about 100M parameters, fp32, with AdamW's state.

In turn: a save that training waits for, and one beside it of which training waits for the copy alone.
Also what the hash costs, and how much slower two threads of matmuls become while a save runs beside them.
Writes about 1.2 GB a save to a temporary folder of the working directory; needs 3 GiB of memory.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.result_file import write_result
from gpt.checkpoint.background import BackgroundSaver
from gpt.checkpoint.resume import ResumeState, save_resume_state, state_bytes
from gpt.model.config import ModelConfig
from gpt.model.transformer import Transformer
from gpt.optim.config import OptimConfig
from gpt.optim.optimizer import Optimizer
from gpt.train.state import saved_tensors

REPEATS = 4
"""The first is reported apart: its copy also pays for fresh memory."""
MODEL = ModelConfig(
    vocab_size=16384, max_seq_len=1024, dim=768, n_layers=12, n_heads=12, n_kv_heads=12, ffn_dim=2048
)
OPTIM = OptimConfig(
    name="adamw",
    lr=1.0e-3,
    matrix_lr=0.02,
    beta1=0.9,
    beta2=0.95,
    weight_decay=0.1,
    schedule="cosine",
    warmup_steps=0,
    decay_fraction=0.5,
    min_lr_ratio=0.1,
    max_grad_norm=1.0,
)


def make_state() -> ResumeState:
    """Return the state of a run of one step, with a gradient of zeros."""
    model = Transformer(MODEL)
    optimizer = Optimizer(model, OPTIM, 10)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0)
    return ResumeState(
        step=1,
        run="benchmark",
        model=saved_tensors(model),
        optimizer=optimizer.state_tensors(),
        guard={},
        scaler={},
        history=[],
    )


def matmuls(is_over: Callable[[], bool]) -> float:
    """Multiply until told; return multiplications per second."""
    a = torch.ones(768, 768)
    started, n = time.perf_counter(), 0
    while not is_over():
        a @ a
        n += 1
    return n / (time.perf_counter() - started)


def main() -> None:
    """Measure both ways in turn; write the medians."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    state = make_state()
    size = state_bytes(state)
    waited, copied, beside, slowed, hashed = [], [], [], [], []
    with tempfile.TemporaryDirectory(dir=".", prefix=".checkpoint_time_") as folder:
        saver = BackgroundSaver(Path(folder))
        for _ in range(REPEATS):
            started = time.perf_counter()
            save_resume_state(Path(folder), state)
            waited.append(time.perf_counter() - started)

            until = time.perf_counter() + 2.0
            alone = matmuls(lambda until=until: time.perf_counter() > until)
            started = time.perf_counter()
            saver.start(state)
            copied.append(time.perf_counter() - started)
            together = matmuls(lambda: not saver.is_busy())
            saver.wait()
            beside.append(time.perf_counter() - started)
            slowed.append(together / alone)

            started = time.perf_counter()
            digest = hashlib.sha256()
            for tensor in [*state.model.values(), *state.optimizer.values()]:
                digest.update(tensor.detach().reshape(-1).numpy().data)
            hashed.append(time.perf_counter() - started)
    save_s, blocked_s = statistics.median(waited), statistics.median(copied[1:])
    write_result(
        "checkpoint_time",
        {
            "parameters": sum(t.numel() for t in state.model.values()),
            "bytes": size,
            "n": REPEATS,
            "waiting": {
                "blocked_s": round(save_s, 2),
                "all_s": [round(x, 2) for x in waited],
                "mb_per_s": round(size / save_s / 1e6),
                "share_of_a_minute": round(save_s / 60, 4),
            },
            "beside": {
                "blocked_s": round(blocked_s, 2),
                "first_blocked_s": round(copied[0], 2),
                "all_s": [round(x, 2) for x in copied],
                "until_renamed_s": round(statistics.median(beside), 2),
                "share_of_a_minute": round(blocked_s / 60, 4),
                "matmul_speed_meanwhile": round(statistics.median(slowed), 2),
            },
            "sha256_s": round(statistics.median(hashed), 2),
            "sha256_share_of_waiting": round(statistics.median(hashed) / save_s, 2),
        },
    )


if __name__ == "__main__":
    main()
