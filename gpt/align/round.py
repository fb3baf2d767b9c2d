"""Rounds of rollouts as batches for the one loop: asked for a round's first sample, it makes the round.

A round is N answers sampled with the weights of that moment, trained on `epochs` times in orders of its own.
What was sampled is kept in buffers of the trained module, so a checkpoint holds it: a run that is stopped
or killed in the middle of a round goes on with the same answers, bit for bit. The loop must not read ahead
of its weights: `reads_ahead` says so.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gpt.align.advantage import adapt_kl_coef, gae, group_advantages, token_rewards, whiten
from gpt.align.answers import Sampler
from gpt.align.config import AlignConfig, PpoConfig
from gpt.align.log_probs import token_logprobs
from gpt.align.policy import Policy
from gpt.align.ppo import ActorCritic
from gpt.align.prompts import Prompt
from gpt.align.rollout import Rollout
from gpt.align.toy_reward import Reward
from gpt.dataset.loader import GlobalShuffle
from gpt.tokenizer.special_tokens import IGNORE
from gpt.train.objective import Batch, Objective
from gpt.train.precision import DTYPES, autocast

PARTS = ("token_ids", "targets", "old", "reference", "advantages", "returns", "values")
STATS = ("reward", "reward_std", "kl", "kl_coef", "answer_tokens", "ended", "rollout_gap")
"""Of a round: mean and deviation of the scores, nats of KL an answer, its coefficient, mean length, share
that ended, and the largest difference between a token's log-probability when sampled and when read again."""


class Round(nn.Module):
    """The answers of one round, (N, T) each, as buffers: part of the resume state."""

    def __init__(self, n: int, seq_len: int, kl_coef: float, device: torch.device) -> None:
        super().__init__()
        for name in PARTS:
            dtype = torch.int64 if name in ("token_ids", "targets") else torch.float32
            self.register_buffer(name, torch.zeros(n, seq_len, dtype=dtype, device=device))
        self.register_buffer("number", torch.tensor(-1))
        self.register_buffer("kl_coef", torch.tensor(kl_coef, dtype=torch.float64))
        self.register_buffer("stats", torch.zeros(len(STATS)))

    def told(self) -> dict[str, Tensor | float]:
        """Return the round's figures."""
        return dict(zip(STATS, self.get_buffer("stats").tolist(), strict=True))


def with_stats(objective: Objective) -> Objective:
    """Return the objective with the figures of the policy's round beside its own."""

    def told(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor | float]]:
        loss, metrics = objective(model, batch)
        assert isinstance(model.round, Round)
        return loss, {**metrics, **model.round.told()}

    return told


class Rollouts:
    """The batches of PPO and GRPO."""

    reads_ahead = False

    def __init__(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        sampler: Sampler,
        reward: Reward,
        config: AlignConfig,
        *,
        padding: int,
    ) -> None:
        assert config.rollout is not None
        start = config.ppo.kl_coef if config.ppo is not None else 0.0
        self.policy, self.prompts, self.sampler, self.reward = policy, prompts, sampler, reward
        self.config, self.rollout, self.padding = config, config.rollout, padding
        self.n = config.answers_per_round
        self.shuffle = GlobalShuffle(len(prompts), config.train.seed)
        self.device = policy.body.embed.weight.device
        policy.round = self.round = Round(self.n, config.train.seq_len, start, self.device)

    def batch(self, cursor: int, count: int) -> tuple[Tensor, ...]:
        """Return PARTS (count, T) of the samples at the cursor, cut to the longest of them."""
        number, place = divmod(cursor, self.n * self.rollout.epochs)
        if int(self.round.get_buffer("number")) != number:
            assert place == 0, f"round {number} is asked for in its middle, and was not sampled"
            self._sample(number)
        epoch, first = divmod(place, self.n)
        order = np.random.default_rng([self.config.train.seed, number, epoch]).permutation(self.n)
        rows = torch.from_numpy(order[first : first + count]).to(self.device)
        parts = [self.round.get_buffer(name)[rows] for name in PARTS]
        width = int((parts[1] != IGNORE).nonzero()[:, 1].max()) + 1
        return tuple(part[:, :width] for part in parts)

    @torch.no_grad()
    def _sample(self, number: int) -> None:
        """Make a round with the current weights and put it into the buffers."""
        was_training, seed = self.policy.training, self.config.train.seed
        self.policy.eval()
        _, places = self.shuffle(number * self.rollout.prompts_per_round, self.rollout.prompts_per_round)
        prompts = [self.prompts[i] for i in places.tolist() for _ in range(self.config.group_size)]
        seeds = [(seed, number, i) for i in range(self.n)]
        rollouts, answers = self.sampler.sample(self.policy.body, prompts, seeds)
        scores = self.reward(answers).to(self.device)  # (N,)
        buffers = dict(self.round.named_buffers())
        self._fill(rollouts, buffers["token_ids"], buffers["targets"])
        self._read_again(buffers)
        mask = buffers["targets"] != IGNORE
        kl = float(((buffers["old"] - buffers["reference"]) * mask).sum() / self.n)
        coef = float(buffers["kl_coef"])
        if self.config.ppo is not None:
            self._token_advantages(self.config.ppo, buffers, mask, scores, kl)
        else:
            own = group_advantages(scores, self.config.group_size)
            buffers["advantages"].copy_(own[:, None] * mask)
        found = [
            float(scores.mean()),
            float(scores.std()),
            kl,
            coef,
            float(mask.sum() / self.n),
            sum(answer.has_ended for answer in answers) / self.n,
            self._gap(rollouts, buffers["old"]),
        ]
        buffers["stats"].copy_(torch.tensor(found))
        buffers["number"].fill_(number)
        self.policy.train(was_training)

    def _fill(self, rollouts: Sequence[Rollout], token_ids: Tensor, targets: Tensor) -> None:
        """Write the sequences: position t holds token t, and as its target token t + 1 of the answer."""
        token_ids.fill_(self.padding)
        targets.fill_(IGNORE)
        for row, rollout in enumerate(rollouts):
            ids, start = torch.tensor(rollout.ids), rollout.n_prompt
            token_ids[row, : len(ids)] = ids
            targets[row, start - 1 : len(ids) - 1] = ids[start:]

    def _read_again(self, buffers: dict[str, Tensor]) -> None:
        """Read all answers in one pass each for the policy and its reference: ratios then start at 1."""
        size, temperature = self.rollout.batch_size, self.rollout.temperature
        dtype = DTYPES[self.config.train.dtype]
        for first in range(0, self.n, size):
            rows = slice(first, first + size)
            token_ids, targets = buffers["token_ids"][rows], buffers["targets"][rows]
            with autocast(dtype, self.device):  # as training will read them
                if isinstance(self.policy, ActorCritic):
                    logits, buffers["values"][rows] = self.policy.with_values(token_ids)
                else:
                    logits = self.policy(token_ids)
                with self.policy.reference() as reference:
                    expected = reference(token_ids)
            buffers["old"][rows] = token_logprobs(logits, targets, temperature)
            buffers["reference"][rows] = token_logprobs(expected, targets, temperature)

    def _token_advantages(
        self, ppo: PpoConfig, buffers: dict[str, Tensor], mask: Tensor, scores: Tensor, kl: float
    ) -> None:
        """Fill advantages and returns; adapt the coefficient for the next round, if it adapts."""
        coef = float(buffers["kl_coef"])
        rewards = token_rewards(buffers["old"], buffers["reference"], mask, scores, coef)
        advantages = gae(rewards, buffers["values"], mask, ppo.gamma, ppo.gae_lambda)
        buffers["returns"].copy_((advantages + buffers["values"]) * mask)
        buffers["advantages"].copy_(whiten(advantages, mask))
        if ppo.kl_target:
            buffers["kl_coef"].fill_(adapt_kl_coef(coef, kl, ppo.kl_target, self.n, ppo.kl_horizon))

    def _gap(self, rollouts: Sequence[Rollout], old: Tensor) -> float:
        """Return the largest difference of a log-probability sampled and read again."""
        gaps = []
        for row, rollout in zip(old, rollouts, strict=True):
            start, n = rollout.n_prompt - 1, len(rollout.logprobs)
            sampled = torch.tensor(rollout.logprobs, device=row.device)
            gaps.append(float((row[start : start + n] - sampled).abs().max()))
        return max(gaps)
