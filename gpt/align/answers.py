"""Prompts to answers with the current weights, and what a set of answers is like."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gpt.align.config import RolloutConfig
from gpt.align.prompts import Prompt
from gpt.align.rollout import Rollout, sample_answers
from gpt.align.toy_reward import Answer, Reward, leaks, toy_reward
from gpt.corpus.language import tag
from gpt.model.transformer import Transformer
from gpt.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """All that sampling needs beside weights and prompts."""

    tokenizer: Tokenizer
    stop_id: int
    config: RolloutConfig

    def sample(
        self, body: Transformer, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]]
    ) -> tuple[list[Rollout], list[Answer]]:
        """Answer every prompt; its seed decides its answer, not its neighbours."""
        uniforms = np.stack([np.random.default_rng(seed).random(self.config.answer_tokens) for seed in seeds])
        rollouts = sample_answers(
            body,
            [prompt.ids for prompt in prompts],
            torch.from_numpy(uniforms),
            temperature=self.config.temperature,
            stop_id=self.stop_id,
            batch_size=self.config.batch_size,
        )
        return rollouts, [self._read(p, r) for p, r in zip(prompts, rollouts, strict=True)]

    def _read(self, prompt: Prompt, rollout: Rollout) -> Answer:
        ids = rollout.ids[rollout.n_prompt :]
        text = self.tokenizer.decode(ids[:-1] if rollout.has_ended else ids)
        return Answer(prompt=prompt, ids=ids, text=text, has_ended=rollout.has_ended)


def measure(
    body: Transformer, sampler: Sampler, prompts: Sequence[Prompt], reward: Reward
) -> dict[str, float]:
    """Sample one answer to each prompt, the same draws at every call; return what they are like.

    `reward` is what was optimized; toy_reward, hinglish and leaks can be checked by eye whatever it was.
    """
    _, answers = sampler.sample(body, prompts, [(0, i) for i in range(len(prompts))])
    n, scores = len(answers), reward(answers).double()
    return {
        "reward": float(scores.mean()),
        "reward_error": float(scores.std() / n**0.5) if n > 1 else 0.0,
        "toy_reward": float(toy_reward(sampler.config.short_tokens)(answers).double().mean()),
        "hinglish": sum(tag(a.text) == "hinglish" for a in answers) / n,
        "leaks": sum(leaks(a.text, a.prompt.account) for a in answers) / n,
        "ended": sum(a.has_ended for a in answers) / n,
        "answer_tokens": sum(len(a.ids) for a in answers) / n,
    }
