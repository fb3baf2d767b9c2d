"""A tiny run in a process that may be killed: `python -m tests.faults.tiny_training` is a fork server.

It imports torch once; every line on stdin is a job, run in a forked child, which writes what it consumed
and what it ended with. Not a test itself.
"""

import dataclasses
import hashlib
import json
import os
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gpt.checkpoint import faults
from gpt.checkpoint.resume import load_resume_state
from gpt.dataset.loader import TokenWindows
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.optim.optimizer import Optimizer
from gpt.train.loop import train
from gpt.train.objective import Batch, next_token
from gpt.train.validate import fixed_validation
from tests.train.test_loop import CONFIG, CPU, Sink

MODEL = ModelConfig(
    vocab_size=64,
    max_seq_len=16,
    dim=16,
    n_layers=2,
    n_heads=2,
    n_kv_heads=1,
    ffn_dim=32,
    qk_norm=True,
    dropout=0.1,
)
TINY = dataclasses.replace(CONFIG, steps=40, checkpoint_every=5, eval_every=10, micro_batch_size=2)
N_SAMPLES = 23
"""Of an epoch: coprime to the batch, so that epochs end anywhere in a step."""


class Recorded:
    """Batches that write down every sample that the objective is given, each line whole.

    What the loop has only read ahead is not written down: it is remembered until it is used.
    """

    def __init__(self, windows: TokenWindows, path: Path) -> None:
        self.windows = windows
        self.file = path.open("a")
        self.read_ahead: deque[str] = deque()

    def batch(self, cursor: int, count: int) -> tuple[Tensor, Tensor]:
        places = zip(*(part.tolist() for part in self.windows.shuffle(cursor, count)), strict=True)
        lines = [f"{os.getpid()} {cursor + i} {e} {sample}\n" for i, (e, sample) in enumerate(places)]
        self.read_ahead.append("".join(lines))
        return self.windows.batch(cursor, count)

    def objective(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """next_token, and the line of the batch."""
        self.file.write(self.read_ahead.popleft())
        self.file.flush()
        return next_token(model, batch)


def windows(n_samples: int = N_SAMPLES) -> TokenWindows:
    """A stream of exactly n_samples windows of 16 tokens."""
    tokens = np.random.default_rng(0).integers(0, 64, size=n_samples * 16 + 16)
    made = TokenWindows(tokens, 16, seed=1)
    assert made.shuffle.n == n_samples
    return made


def run_tiny(folder: Path, dials: dict[str, Any], n_samples: int = N_SAMPLES) -> None:
    """Train, resuming in folder/resume; write folder/result.json: hashes and the loss of every step."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    config = dataclasses.replace(TINY, **dials)
    model = Transformer(MODEL)
    init_weights(model, 0)
    data = windows(n_samples)
    recorded = Recorded(data, folder / "consumed.txt")
    result = train(
        model,
        recorded,
        recorded.objective,
        config,
        name="tiny",
        validate=fixed_validation(data, 2, 2, CPU, torch.float32),
        sink=Sink(),
        device=CPU,
        resume_dir=folder / "resume",
    )
    last = load_resume_state(folder / "resume")  # steps are a multiple of the interval: the final state
    assert last is not None
    assert last.step == config.steps
    report = {
        "model": _sha256(dict(model.named_parameters())),
        "optimizer": _sha256(last.optimizer),
        "losses": [[row["step"], row["loss"], row.get("val_loss")] for row in result.history],
    }
    (folder / "result.json").write_text(json.dumps(report))


def _sha256(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def warm_up() -> None:
    """Import what torch imports at first use, but start no autograd: its threads do not survive a fork."""
    model = Transformer(MODEL)
    optimizer = Optimizer(model, TINY.optim, TINY.steps)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.clip()
    optimizer.step(0)


def serve() -> None:
    """Run one job a line: {folder, dials, n_samples, fault}; answer its pid, then its exit status."""
    torch.set_num_threads(1)
    warm_up()
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            log = os.open(f"{job['folder']}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = 1
            try:
                faults.arm(job["fault"])
                run_tiny(Path(job["folder"]), job["dials"], job["n_samples"])
                code = 0
            except SystemExit as stopped:
                code = int(str(stopped.code))
            except OSError as error:
                print(error, file=sys.stderr, flush=True)
                code = 2
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
