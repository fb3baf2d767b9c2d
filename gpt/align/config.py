"""The dials of alignment. One class for the three variants: each sets its own part and leaves the others."""

from dataclasses import dataclass
from typing import Literal

from gpt.adapters.config import LoraConfig
from gpt.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class DpoConfig:
    """Direct preference optimization."""

    beta: float
    """Strength of the pull towards the reference: larger keeps the policy nearer."""
    length_normalized: bool
    """Mean log-probability of an answer's tokens for their sum; beta is then some ten times larger."""
    label_smoothing: float
    """Share of the pairs that are taken to be labelled the wrong way round."""

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise ValueError(f"beta: must be positive, got {self.beta}")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing: 0 <= x < 0.5 is needed, got {self.label_smoothing}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutConfig:
    """How answers are sampled and scored."""

    reward: Literal["toy", "model"]
    """toy is a rule to check by eye (gpt/align/toy_reward.py); model is trained on the pairs first."""
    answer_tokens: int
    """Longest answer, in tokens; a longer one is cut off there and counts as not ended."""
    short_tokens: int
    """Answers of at most so many tokens please the toy reward."""
    prompts_per_round: int
    """Prompts answered with the same weights."""
    epochs: int
    """Times that the answers of a round are trained on."""
    temperature: float
    """Of sampling, and of every log-probability that training compares."""
    batch_size: int
    """Answers sampled at once: memory for time."""

    def __post_init__(self) -> None:
        for name in ("answer_tokens", "short_tokens", "prompts_per_round", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: at least 1 is needed, got {getattr(self, name)}")
        if self.temperature <= 0:
            raise ValueError(f"temperature: must be positive, got {self.temperature}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PpoConfig:
    """Proximal policy optimization, token by token."""

    kl_coef: float
    """Nats of KL to the reference that cost one unit of reward; the start value if it adapts."""
    kl_target: float
    """KL of an answer in nats that the coefficient is adapted to; 0 keeps the coefficient."""
    kl_horizon: int
    """Answers in which the coefficient may double or halve, about five times over."""
    gamma: float
    gae_lambda: float
    clip_ratio: float
    clip_value: float
    value_coef: float
    """Weight of the value loss beside the policy's: both change the same body."""

    def __post_init__(self) -> None:
        for name in ("kl_coef", "kl_target", "value_coef"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must not be negative, got {getattr(self, name)}")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: 0..1 is needed, got {getattr(self, name)}")
        for name in ("clip_ratio", "clip_value", "kl_horizon"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class GrpoConfig:
    """Group relative policy optimization: no critic."""

    group_size: int
    """Answers to each prompt, compared with each other."""
    kl_coef: float
    """Weight of the KL to the reference in the loss."""
    clip_ratio: float

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ValueError(f"group_size: at least 2 is needed to compare, got {self.group_size}")
        if self.kl_coef < 0:
            raise ValueError(f"kl_coef: must not be negative, got {self.kl_coef}")
        if self.clip_ratio <= 0:
            raise ValueError(f"clip_ratio: must be positive, got {self.clip_ratio}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignConfig:
    """One variant's section: `align.dpo`, `align.ppo` or `align.grpo`."""

    lora_rank: int
    """R; 0 trains every parameter, and keeps a copy of the model where rollouts need the reference."""
    lora_alpha: float
    targets: tuple[str, ...]
    max_pairs: int
    """Preference pairs used; 0 takes all."""
    dpo: DpoConfig | None = None
    ppo: PpoConfig | None = None
    grpo: GrpoConfig | None = None
    rollout: RolloutConfig | None = None
    """For ppo and grpo."""
    reward_train: TrainConfig | None = None
    """Training of the reward model, where rollout.reward is model."""
    train: TrainConfig

    def __post_init__(self) -> None:
        if self.lora_rank < 0:
            raise ValueError(f"lora_rank: 0 (all parameters) or more is needed, got {self.lora_rank}")
        assert self.lora_rank == 0 or self.lora  # LoraConfig validates
        if sum(part is not None for part in (self.dpo, self.ppo, self.grpo)) != 1:
            raise ValueError("dpo: exactly one of dpo, ppo and grpo is needed")
        if (self.dpo is None) != (self.rollout is not None):
            raise ValueError("rollout: ppo and grpo need it, dpo has none")
        needs_model = self.rollout is not None and self.rollout.reward == "model"
        if needs_model != (self.reward_train is not None):
            raise ValueError("reward_train: needed where rollout.reward is model, and nowhere else")
        for name, train in (("train", self.train), ("reward_train", self.reward_train)):
            if train is not None:
                _check_train(train, name, is_paired=name == "reward_train" or self.dpo is not None)
        if self.rollout is not None and self.answers_per_round % self.train.samples_per_step:
            raise ValueError(
                f"train.micro_batch_size: {self.train.samples_per_step} answers of a step do not divide the "
                f"{self.answers_per_round} of a round"
            )

    @property
    def lora(self) -> LoraConfig:
        """The adapters' own dials."""
        return LoraConfig(
            lora_rank=self.lora_rank, lora_alpha=self.lora_alpha, targets=self.targets, dropout=0.0
        )

    @property
    def group_size(self) -> int:
        """Answers to one prompt."""
        return 1 if self.grpo is None else self.grpo.group_size

    @property
    def answers_per_round(self) -> int:
        """N: answers sampled with the same weights."""
        assert self.rollout is not None
        return self.rollout.prompts_per_round * self.group_size


def _check_train(train: TrainConfig, name: str, *, is_paired: bool) -> None:
    """Refuse the loop's dials that have no meaning here, rather than ignore them."""
    off = {"compile": False, "document_mask": False, "head_loss": "whole", "sample_every": 0}
    off |= {"balance_loss": 0.0, "z_loss": 0.0}
    for dial, value in off.items():
        if getattr(train, dial) != value:
            raise ValueError(f"{name}.{dial}: alignment does not use it; write {str(value).lower()}")
    if is_paired and train.micro_batch_size % 2:
        raise ValueError(
            f"{name}.micro_batch_size: got {train.micro_batch_size}; samples are the two sides of a pair, "
            "write an even number"
        )
