"""What does a waiting OpenMP thread cost: spinning (libgomp's default) or sleeping (what set-up chooses)?

The laptop profile's pretraining step, alone and beside one busy process, both policies interleaved in child
processes, because the library reads its policy once, when it is loaded.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.result_file import write_result

STEPS = 30
ROUNDS = 3
BUSY = "while True: pass"


def train_steps() -> float:
    """Return tokens per second of STEPS steps after a warm-up; runs in a child."""
    import torch

    from gpt.config import load_section
    from gpt.model.init_weights import init_weights
    from gpt.model.loss import mean_loss
    from gpt.model.transformer import Transformer
    from gpt.optim.optimizer import Optimizer
    from stages.pretrain import PretrainConfig

    torch.set_num_threads(2)
    config = load_section(Path("conf/laptop.yaml"), "pretrain", PretrainConfig)
    model = Transformer(config.model)
    init_weights(model, config.train.seed)
    optimizer = Optimizer(model, config.train.optim, 1000)
    shape = (config.train.micro_batch_size, config.train.seq_len)
    ids = torch.randint(0, config.model.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    started = 0.0
    for step in range(STEPS + 3):
        if step == 3:
            started = time.monotonic()
        mean_loss(model(ids), ids).backward()
        optimizer.clip()
        optimizer.step(step)
    return STEPS * ids.numel() / (time.monotonic() - started)


def child(policy: str) -> float:
    """Run train_steps in a process with the given wait policy."""
    environment = os.environ | {"OMP_WAIT_POLICY": policy}
    command = [sys.executable, "-m", "benchmarks.waiting_threads", "--child"]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return float(json.loads(out))


def main() -> None:
    """Measure and write the result."""
    speeds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for beside in ("alone", "beside a busy process"):
            busy = None if beside == "alone" else subprocess.Popen([sys.executable, "-c", BUSY])
            try:
                for policy in ("ACTIVE", "PASSIVE"):
                    speeds.setdefault(f"{policy.lower()}, {beside}", []).append(child(policy))
            finally:
                if busy is not None:
                    busy.kill()
                    busy.wait()
    medians = {name: round(statistics.median(values)) for name, values in speeds.items()}
    write_result(
        "waiting_threads",
        {
            "unit": "tokens per second",
            "rounds": ROUNDS,
            "median": medians,
            "all": {name: [round(v) for v in values] for name, values in speeds.items()},
            "passive_over_active": {
                beside: round(medians[f"passive, {beside}"] / medians[f"active, {beside}"], 2)
                for beside in ("alone", "beside a busy process")
            },
        },
    )


if __name__ == "__main__":
    if "--child" in sys.argv:
        print(json.dumps(train_steps()))
    else:
        main()
