"""The dials of supervised fine-tuning with LoRA."""

from dataclasses import dataclass

from gpt.adapters.config import BasePrecision, LoraConfig
from gpt.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class SftConfig:
    """How logs become training sequences."""

    learn_payment_logs: bool
    """Train on whole payment-log lines beside the assistant's turns of chats."""
    max_records: int
    """Log records used, evenly spread over the file; 0 takes all."""
    replay_fraction: float
    """Share of the learned tokens that is English replay against forgetting; 0 is off."""

    def __post_init__(self) -> None:
        if self.max_records < 0:
            raise ValueError(f"max_records: 0 (all) or more is needed, got {self.max_records}")
        if not 0 <= self.replay_fraction < 1:
            raise ValueError(
                f"replay_fraction: 0 (off) up to 1, without it, is needed, got {self.replay_fraction}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneConfig:
    """The section `finetune`; LoRA's dials stand flat, so that `-S finetune.lora_rank=16` reads well."""

    base: str
    """Path of the model that is adapted: a stage's checkpoint (models/pretrain/checkpoint), the file of a
    registry model that fetch.extras names, or any folder or file that open_model reads. dvc.yaml makes this
    path an input of the stage, so another base, or the same one made again, runs it again."""
    base_precision: BasePrecision
    """How the frozen projections lie in memory while the adapters learn: fp32, bf16, or nf4 (QLoRA)."""
    merge: bool
    """checkpoint/ is the merged model, which every later stage takes; false makes it the adapter, which
    opens with its base, and which quantize and align refuse."""
    lora_rank: int
    lora_alpha: float
    rank_stabilized: bool
    """rsLoRA: scale by alpha / sqrt(R), not alpha / R."""
    lora_dropout: float
    targets: tuple[str, ...]
    data: SftConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        assert self.lora  # LoraConfig validates
        if not self.base:
            raise ValueError("base: empty; write models/pretrain/checkpoint, or another model's path")

    @property
    def lora(self) -> LoraConfig:
        """The adapters' own dials."""
        return LoraConfig(
            lora_rank=self.lora_rank,
            lora_alpha=self.lora_alpha,
            targets=self.targets,
            dropout=self.lora_dropout,
            rank_stabilized=self.rank_stabilized,
        )
