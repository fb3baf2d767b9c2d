"""One alignment run: tuned model and logs in, aligned model and what changed out."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gpt.align.answers import Sampler, measure
from gpt.align.config import AlignConfig
from gpt.align.dpo import dpo_objective, pair_validation, reference_logprobs
from gpt.align.grpo import grpo_objective
from gpt.align.policy import Policy
from gpt.align.ppo import ActorCritic, ppo_objective
from gpt.align.prompts import Prompt, encode_pairs, end_of_turn, first_prompts
from gpt.align.reward_model import RewardModel, model_reward, reward_objective
from gpt.align.round import Rollouts, with_stats
from gpt.align.toy_reward import Reward, toy_reward
from gpt.corpus.preferences import preference_pairs
from gpt.dataset.preference_pairs import PreferencePairs
from gpt.model.flops import training_flops_per_token
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.train.config import TrainConfig
from gpt.train.loop import TrainResult, train
from gpt.train.metrics import MetricSink

MEASURED = 64
"""Held-out prompts answered before and after, at most."""


@dataclass(frozen=True, kw_only=True)
class AlignResult:
    """An aligned model and what it took."""

    model: Transformer
    train: TrainResult
    metrics: dict[str, Any]
    """Counts of the data, and what held-out pairs and answers are like, before and after."""


class NamedSink:
    """A sink in which one part of a run has names of its own: reward.loss beside the policy's loss."""

    def __init__(self, sink: MetricSink, part: str) -> None:
        self.sink, self.part = sink, part

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record metrics under the part's name."""
        self.sink.log(step, {f"{self.part}.{key}": value for key, value in metrics.items()})

    def log_config(self, config: dict[str, Any]) -> None:
        """Record dotted configuration values."""
        self.sink.log_config(config)

    def log_text(self, name: str, text: str) -> None:
        """Record a text under the part's name."""
        self.sink.log_text(f"{self.part}/{name}", text)

    def close(self) -> None:
        """Do nothing: the sink is not its own."""


@dataclass(kw_only=True)
class Alignment:
    """What the variants share: the tuned model, its data, where to write."""

    config: AlignConfig
    tokenizer: Tokenizer
    records: dict[str, list[dict[str, Any]]]
    """Log records by split."""
    extra: Path
    """Where the fetch stage put the sets that it found."""
    sink: MetricSink
    device: torch.device
    resume_dir: Path
    name: str
    metrics: dict[str, Any] = field(default_factory=dict)

    def run(self, model: Transformer) -> AlignResult:
        """Align `model` in place."""
        if self.config.dpo is not None:
            result, aligned = self._dpo(model)
        else:
            result, aligned = self._online(model)
        return AlignResult(model=aligned, train=result, metrics=self.metrics)

    def _dpo(self, model: Transformer) -> tuple[TrainResult, Transformer]:
        config, dpo = self.config, self.config.dpo
        assert dpo is not None
        sets = {split: self._pairs(split, config.train) for split in ("train", "val")}
        policy = Policy(model, config).eval()
        for pairs in sets.values():
            pairs.reference = reference_logprobs(
                policy, pairs, is_mean=dpo.length_normalized, train=config.train, device=self.device
            )
        objective = dpo_objective(dpo)
        validate, found = pair_validation(sets["val"], objective, config.train, self.device)
        result = self._train(policy, sets["train"], objective, validate, config.train)
        validate(policy)
        self.metrics |= {f"after_{key}": round(value, 4) for key, value in found.items()}
        return result, policy.merged()

    def _online(self, model: Transformer) -> tuple[TrainResult, Transformer]:
        config, rollout = self.config, self.config.rollout
        assert rollout is not None
        reward = self._reward(model)
        longest = config.train.seq_len - rollout.answer_tokens
        prompts, n_long = first_prompts(
            self.tokenizer, self.records["train"], longest=longest, name=self.name
        )
        held_out, _ = first_prompts(self.tokenizer, self.records["val"], longest=longest, name=self.name)
        self.metrics |= {"prompts": len(prompts), "prompts_too_long": n_long}
        sampler = Sampler(tokenizer=self.tokenizer, stop_id=end_of_turn(self.tokenizer), config=rollout)
        held_out = held_out[:MEASURED]
        self._measure("before", model, sampler, held_out, reward)
        if config.ppo is not None:
            policy: Policy = ActorCritic(model, config)
            objective = ppo_objective(config.ppo, rollout.temperature)
        else:
            assert config.grpo is not None
            policy = Policy(model, config, keeps_reference=True)
            objective = grpo_objective(config.grpo, rollout.temperature)
        batches = Rollouts(policy, prompts, sampler, reward, config, padding=self.tokenizer.end_of_text)
        n_validated = min(config.train.eval_batches * config.train.micro_batch_size, len(held_out))

        def validate(trained: nn.Module) -> float:
            """Return minus the mean reward of held-out answers: the loop's validation goes down."""
            body = trained.get_submodule("body")
            assert isinstance(body, Transformer)
            return -measure(body, sampler, held_out[:n_validated], reward)["reward"]

        result = self._train(policy, batches, with_stats(objective), validate, config.train)
        self._measure("after", policy.body, sampler, held_out, reward)
        return result, policy.merged()

    def _reward(self, model: Transformer) -> Reward:
        """Return the toy reward, or train the reward model on a copy of the tuned model."""
        config = self.config
        assert config.rollout is not None
        if config.rollout.reward == "toy":
            return toy_reward(config.rollout.short_tokens)
        assert config.reward_train is not None
        sets = {split: self._pairs(split, config.reward_train) for split in ("train", "val")}
        judge = RewardModel(deepcopy(model), config)
        validate, found = pair_validation(sets["val"], reward_objective, config.reward_train, self.device)
        self._train(judge, sets["train"], reward_objective, validate, config.reward_train, part="reward")
        validate(judge)
        self.metrics["reward_accuracy"] = round(found["accuracy"], 4)
        return model_reward(judge)

    def _pairs(self, split: str, config: TrainConfig) -> PreferencePairs:
        """Encode the pairs of a split; its counts become metrics."""
        chosen, rejected, counts = encode_pairs(
            self.tokenizer,
            preference_pairs(self.records[split], self.extra),
            seq_len=config.seq_len,
            most=self.config.max_pairs,
            name=self.name,
        )
        prefix = "" if split == "train" else "val_"
        self.metrics |= {f"{prefix}{key}": n for key, n in counts.items()}
        seed = config.seed if split == "train" else 0
        return PreferencePairs(chosen, rejected, padding=self.tokenizer.end_of_text, seed=seed)

    def _measure(
        self, when: str, body: Transformer, sampler: Sampler, prompts: Sequence[Prompt], reward: Reward
    ) -> None:
        found = measure(body.eval(), sampler, prompts, reward)
        self.metrics |= {f"{when}_{key}": round(value, 4) for key, value in found.items()}

    def _train(
        self, model: Policy, batches: Any, objective: Any, validate: Any, config: TrainConfig, part: str = ""
    ) -> TrainResult:
        """Train through the one loop; a part of a run resumes in a folder of its own."""
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        total = sum(p.numel() for p in model.parameters())
        self.metrics[f"{part}_trainable_parameters".lstrip("_")] = trained
        print(
            f"{self.name}: {trained:,} of {total:,} parameters are updated ({trained / total:.2%})",
            flush=True,
        )
        return train(
            model,
            batches,
            objective,
            config,
            name=f"{self.name} {part}".strip(),
            validate=validate,
            sink=NamedSink(self.sink, part) if part else self.sink,
            device=self.device,
            resume_dir=self.resume_dir / part,
            flops_per_token=training_flops_per_token(model.body.config, config.seq_len),
        )
