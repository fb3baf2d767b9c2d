"""Tiny policies, prompts and dials for the tests of alignment. Not a test itself."""

import dataclasses
from typing import Any

import torch

from gpt.align.answers import Sampler
from gpt.align.config import AlignConfig, DpoConfig, GrpoConfig, PpoConfig, RolloutConfig
from gpt.align.policy import Policy
from gpt.align.ppo import ActorCritic
from gpt.align.prompts import Prompt, end_of_turn
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer
from tests.train.test_loop import CONFIG, OPTIM

TRAIN = dataclasses.replace(
    CONFIG,
    steps=8,
    seq_len=32,
    micro_batch_size=2,
    grad_accumulation=2,
    eval_every=8,
    checkpoint_every=3,
    balance_loss=0.0,
    z_loss=0.0,
    optim=dataclasses.replace(OPTIM, name="adamw", lr=0.01),
)
DPO = DpoConfig(beta=0.1, length_normalized=False, label_smoothing=0.0)
PPO = PpoConfig(
    kl_coef=0.1,
    kl_target=0.5,
    kl_horizon=100,
    gamma=1.0,
    gae_lambda=0.95,
    clip_ratio=0.2,
    clip_value=0.2,
    value_coef=0.5,
)
GRPO = GrpoConfig(group_size=4, kl_coef=0.1, clip_ratio=0.2)
ROLLOUT = RolloutConfig(
    reward="toy",
    answer_tokens=6,
    short_tokens=4,
    prompts_per_round=8,
    epochs=1,
    temperature=0.9,
    batch_size=5,
)


def dials(algorithm: str, **changes: Any) -> AlignConfig:
    """Return the dials of a tiny run: rounds of 8 answers, 4 to a step."""
    parts: dict[str, Any] = {
        "dpo": {"dpo": DPO},
        "ppo": {"ppo": PPO, "rollout": ROLLOUT},
        "grpo": {"grpo": GRPO, "rollout": dataclasses.replace(ROLLOUT, prompts_per_round=2)},
    }[algorithm]
    fixed = {"lora_rank": 4, "lora_alpha": 8.0, "targets": ("q_proj", "down_proj"), "max_pairs": 0}
    return AlignConfig(**{**fixed, **parts, "train": TRAIN, **changes})


def body(config: ModelConfig, seed: int = 0) -> Transformer:
    """A model whose distributions are far from flat."""
    torch.set_num_threads(1)
    model = Transformer(config)
    init_weights(model, seed, init_std=0.2)
    return model.eval()


def policy(config: ModelConfig, align: AlignConfig) -> Policy:
    """The policy that a variant trains."""
    if align.ppo is not None:
        return ActorCritic(body(config), align)
    return Policy(body(config), align, keeps_reference=align.grpo is not None)


def prompts(tokenizer: Tokenizer, n: int = 12) -> list[Prompt]:
    """Prompts of 3 to 3 + n tokens: none of them text."""
    return [
        Prompt(ids=tuple(range(20 + i, 23 + 2 * i)), text="UPI?", account="123456789012") for i in range(n)
    ]


def sampler(tokenizer: Tokenizer, align: AlignConfig) -> Sampler:
    """What samples answers with the tiny dials."""
    assert align.rollout is not None
    return Sampler(tokenizer=tokenizer, stop_id=end_of_turn(tokenizer), config=align.rollout)
