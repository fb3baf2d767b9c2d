"""The dials of supervised fine-tuning with LoRA."""

from dataclasses import dataclass

from gpt.adapters.config import LoraConfig
from gpt.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class SftConfig:
    """How logs become training sequences."""

    learn_payment_logs: bool
    """Train on whole payment-log lines beside the assistant's turns of chats."""
    max_records: int
    """Records used; 0 takes all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneConfig:
    """The section `finetune`; LoRA's dials stand flat, so that `-S finetune.lora_rank=16` reads well."""

    lora_rank: int
    lora_alpha: float
    lora_dropout: float
    targets: tuple[str, ...]
    data: SftConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        assert self.lora  # LoraConfig validates

    @property
    def lora(self) -> LoraConfig:
        """The adapters' own dials."""
        return LoraConfig(
            lora_rank=self.lora_rank,
            lora_alpha=self.lora_alpha,
            targets=self.targets,
            dropout=self.lora_dropout,
        )
