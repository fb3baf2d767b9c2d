"""Does pretrain's recipe earn its dials? The same tokens once more with the plain GPT-2 recipe.

Plain: LayerNorm, GELU, learned positions, biases, MHA, AdamW with cosine (lr 6e-4 as GPT-2 small in
nanoGPT, and two larger ones), weight decay 0.1, dropout 0; the same
depth, width, parameters within 3%, batch, order of samples, validation and seed.
Needs the shards of `dvc repro shard`. About ten minutes for the laptop profile.
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path

from benchmarks.result_file import write_result
from gpt.config import load_section
from gpt.model.config import ModelConfig
from gpt.model.flops import count_parameters
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.optim.config import OptimConfig
from gpt.train.loop import TrainResult, train
from gpt.train.metrics import JsonlSink
from gpt.train.objective import next_token
from stages.machine import prepare_machine
from stages.pretrain import PretrainConfig
from stages.runner import MachineConfig, StageRun
from stages.training import open_corpus

PARAMS = Path("params.yaml")
PLAIN_LRS = (6.0e-4, 3.0e-3, 1.0e-2)


def plain_model(ours: ModelConfig) -> ModelConfig:
    """GPT-2's architecture at our depth and width; F = 4 C is GPT-2's, ours is chosen to match it."""
    return dataclasses.replace(
        ours,
        norm="layernorm",
        activation="gelu",
        position="learned",
        bias=True,
        qk_norm=False,
        n_kv_heads=ours.n_heads,
        ffn_dim=4 * ours.dim,
        logit_softcap=0.0,
    )


def plain_optim(ours: OptimConfig, lr: float) -> OptimConfig:
    """nanoGPT's optimizer settings."""
    return dataclasses.replace(
        ours, name="adamw", lr=lr, beta2=0.95, weight_decay=0.1, schedule="cosine", min_lr_ratio=0.1
    )


def main() -> None:
    """Train each recipe on the same tokens; write both losses."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    config = load_section(PARAMS, "pretrain", PretrainConfig)
    machine = load_section(PARAMS, "machine", MachineConfig)
    device = prepare_machine(machine)
    sink = JsonlSink(Path("/dev/null"))
    run = StageRun(
        name="benchmark",
        variant=None,
        inputs={"shards": Path("data/shard/shards"), "tokenizer": Path("models/tokenize/tokenizer")},
        out=Path("."),
        resume_dir=Path("."),
        machine=machine,
        sink=sink,
    )
    corpus = open_corpus(run, config.train, "windows", device)

    def measure(name: str, model_config: ModelConfig, optim: OptimConfig) -> dict[str, float | str]:
        model = Transformer(model_config).to(device)
        plain = model_config.norm == "layernorm"
        std, zero = (0.02, False) if plain else (config.init_std, config.zero_residual)
        init_weights(model, config.train.seed, init_std=std, zero_residual=zero)
        started = time.monotonic()
        result: TrainResult = train(
            model,
            corpus.train,
            next_token,
            dataclasses.replace(config.train, optim=optim),
            name=name,
            validate=corpus.validate,
            sink=sink,
            device=device,
        )
        return {
            "recipe": name,
            "lr": optim.lr,
            "parameters": count_parameters(model_config).total,
            "tokens": result.tokens,
            "val_loss": round(result.val_loss, 4),
            "seconds": round(time.monotonic() - started, 1),
        }

    rows = [measure("ours", config.model, config.train.optim)]
    for lr in PLAIN_LRS:
        optim = plain_optim(config.train.optim, lr)
        rows.append(measure(f"plain GPT-2, lr {lr}", plain_model(config.model), optim))
    best_plain = min(float(row["val_loss"]) for row in rows[1:])
    write_result(
        "recipe_against_gpt2",
        {
            "data": "Shakespeare, validation split of the laptop profile",
            "seed": config.train.seed,
            "n_seeds": 1,
            "rows": rows,
            "gain_nats_per_token": round(best_plain - float(rows[0]["val_loss"]), 4),
        },
    )


if __name__ == "__main__":
    sys.exit(main())
