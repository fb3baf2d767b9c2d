"""pretrain: a transformer from random weights."""

from dataclasses import dataclass
from typing import Any

from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.train.config import TrainConfig
from stages.machine import prepare_machine
from stages.runner import StageRun, stage
from stages.training import Packing, open_corpus, save_trained, train_language_model


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """The section `pretrain`."""

    packing: Packing
    init_std: float
    """Standard deviation of the initial weights."""
    zero_residual: bool
    """Start each block's two outputs at zero."""
    model: ModelConfig
    train: TrainConfig


@stage(config=PretrainConfig, inputs=("shards", "tokenizer"), on_ranks=True)
def pretrain(config: PretrainConfig, run: StageRun) -> dict[str, Any]:
    """Train from scratch; the same command resumes."""
    device = prepare_machine(run.machine)
    if config.model.max_seq_len < config.train.seq_len:
        raise ValueError(
            f"pretrain.train.seq_len: {config.train.seq_len} exceeds model.max_seq_len "
            f"{config.model.max_seq_len}"
        )
    corpus = open_corpus(run, config.train, config.packing, device)
    if config.model.vocab_size != corpus.tokenizer.n_vocab:
        raise ValueError(
            f"pretrain.model.vocab_size: got {config.model.vocab_size}, the tokenizer has "
            f"{corpus.tokenizer.n_vocab} tokens; write the same number here and in tokenize.vocab_size"
        )
    model = Transformer(config.model)
    init_weights(model, config.train.seed, init_std=config.init_std, zero_residual=config.zero_residual)
    result = train_language_model(model.to(device), corpus, config.train, run, device)
    return save_trained(result, corpus, run, config)


if __name__ == "__main__":
    raise SystemExit(pretrain.main())
