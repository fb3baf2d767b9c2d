"""What does a waiting OpenMP thread cost: spinning, sleeping, or a little of both (what set-up chooses)?

The laptop profile's pretraining step, alone and beside one busy process, all policies in turns in child
processes, because the library reads its policy once, when it is loaded.
"""

import argparse
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
POLICIES = {
    "spinning": {"OMP_WAIT_POLICY": "ACTIVE"},
    "spinning briefly": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"},
    "sleeping": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},
}
"""Of libgomp; its own default lies between the first two."""


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


def child(policy: dict[str, str]) -> float:
    """Run train_steps in a process with the given wait policy."""
    environment = os.environ | policy
    command = [sys.executable, "-m", "benchmarks.waiting_threads", "--child"]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return float(json.loads(out))


def main() -> None:
    """Measure and write the result."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    speeds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for beside in ("alone", "beside a busy process"):
            busy = None if beside == "alone" else subprocess.Popen([sys.executable, "-c", BUSY])
            try:
                for name, policy in POLICIES.items():
                    speeds.setdefault(f"{name}, {beside}", []).append(child(policy))
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
            "briefly_over_sleeping": _over(medians, "spinning briefly", "sleeping"),
            "briefly_over_spinning": _over(medians, "spinning briefly", "spinning"),
        },
    )


def _over(medians: dict[str, int], above: str, below: str) -> dict[str, float]:
    return {
        beside: round(medians[f"{above}, {beside}"] / medians[f"{below}, {beside}"], 2)
        for beside in ("alone", "beside a busy process")
    }


if __name__ == "__main__":
    if "--child" in sys.argv:
        print(json.dumps(train_steps()))
    else:
        main()
