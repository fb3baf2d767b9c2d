"""scale: a bigger model grown from a trained one; variant `dense` by depth and width, `moe` by experts."""

from dataclasses import dataclass
from typing import Any

from gpt.checkpoint.save_load import load_model, load_tensors, open_checkpoint
from gpt.growth.config import GrowthConfig
from gpt.growth.grow import grow
from gpt.model.transformer import Transformer
from gpt.train.config import TrainConfig
from stages.machine import prepare_machine
from stages.runner import StageRun, stage
from stages.training import Packing, open_corpus, save_trained, train_language_model


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleConfig:
    """The sections `scale.dense` and `scale.moe`."""

    packing: Packing
    growth: GrowthConfig
    train: TrainConfig


@stage(config=ScaleConfig, inputs=("parent", "shards", "tokenizer"), on_ranks=True)
def scale(config: ScaleConfig, run: StageRun) -> dict[str, Any]:
    """Grow, state the loss before and after growth, train on."""
    device = prepare_machine(run.machine)
    corpus = open_corpus(run, config.train, config.packing, device)
    parent = open_checkpoint(run.inputs["parent"])
    parent_loss = corpus.validate(load_model(parent).to(device))
    architecture, tensors = grow(parent.tensors, parent.architecture, config.growth)
    model = Transformer(architecture)
    load_tensors(model, tensors)
    model.to(device).eval()
    grown_loss = corpus.validate(model)
    print(f"{run.name}: loss {parent_loss:.5f} before growth, {grown_loss:.5f} after", flush=True)
    result = train_language_model(model, corpus, config.train, run, device)
    metrics = save_trained(result, corpus, run, config, parent.sha256)
    return {
        **metrics,
        "parent_val_loss": round(parent_loss, 5),
        "grown_val_loss": round(grown_loss, 5),
        "growth_jump": round(grown_loss - parent_loss, 6),
    }


if __name__ == "__main__":
    raise SystemExit(scale.main())
