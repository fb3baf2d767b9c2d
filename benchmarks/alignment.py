"""PPO and GRPO: does the reward rise, is the KL bounded, and what does a reward with a hole bring?

    python -m benchmarks.alignment                     the fine-tuned model of this checkout, 3 seeds
    python -m benchmarks.alignment --table             print the chapter's tables from the result

Two rewards, each optimized by both algorithms from the same tuned model: the toy reward, and one with a known
hole: every romanised Hindi word counts 0.1, without a limit and however often it is said.
The hole is what is optimized; what is wanted is watched: the toy reward and the share of different words.
Every seed interleaves all four runs. Held-out prompts, the same for all; errors are over seeds.
"""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.result_file import RESULTS, write_result
from gpt.align.answers import Sampler, measure
from gpt.align.config import AlignConfig, GrpoConfig, PpoConfig, RolloutConfig
from gpt.align.grpo import grpo_objective
from gpt.align.policy import Policy
from gpt.align.ppo import ActorCritic, ppo_objective
from gpt.align.prompts import Prompt, end_of_turn, first_prompts
from gpt.align.round import Rollouts, with_stats
from gpt.align.toy_reward import Answer, Reward, toy_reward
from gpt.catalog.open_model import OpenModel, open_model
from gpt.config import load_section
from gpt.corpus.hinglish import generate_chats
from gpt.corpus.language import count_words
from gpt.train.loop import train

NAME = "alignment"
SEEDS = (1, 2, 3)
STEPS, HELD_OUT = 16, 48
ROLLOUT = RolloutConfig(
    reward="toy",
    answer_tokens=24,
    short_tokens=24,
    prompts_per_round=32,
    epochs=1,
    temperature=1.0,
    batch_size=32,
)
PPO = PpoConfig(
    kl_coef=0.02,
    kl_target=0.0,
    kl_horizon=1000,
    gamma=1.0,
    gae_lambda=0.95,
    clip_ratio=0.2,
    clip_value=0.2,
    value_coef=0.1,
)
GRPO = GrpoConfig(group_size=8, kl_coef=0.02, clip_ratio=0.2)
PROFILE = Path(__file__).parents[1] / "conf/laptop.yaml"


class Silent:
    """A sink that keeps nothing."""

    def log(self, step: int, metrics: dict[str, float]) -> None: ...

    def log_config(self, config: dict[str, Any]) -> None: ...

    def log_text(self, name: str, text: str) -> None: ...

    def close(self) -> None: ...


def hindi_words_reward(answers: Sequence[Answer]) -> Tensor:
    """The reward with a hole: 0.1 for every romanised Hindi word, whatever it says and however often."""
    return torch.tensor([0.1 * count_words(answer.text)[1] for answer in answers])


def watched(
    body: torch.nn.Module, sampler: Sampler, prompts: list[Prompt], reward: Reward
) -> dict[str, float]:
    """What held-out answers earn and are like."""
    found = measure(body, sampler, prompts, reward)  # type: ignore[arg-type]
    _, answers = sampler.sample(body, prompts, [(0, i) for i in range(len(prompts))])  # type: ignore[arg-type]
    words = [word for answer in answers for word in answer.text.lower().split()]
    return {**found, "distinct_words": len(set(words)) / max(len(words), 1)}


def run(
    base: OpenModel,
    algorithm: str,
    reward: Reward,
    seed: int,
    prompts: list[Prompt],
    held_out: list[Prompt],
    steps: int,
) -> dict[str, Any]:
    """Align one copy; return its curve and what held-out answers are like after."""
    profile = load_section(PROFILE, f"align.{algorithm}", AlignConfig)
    seq_len = max(len(prompt.ids) for prompt in prompts) + ROLLOUT.answer_tokens
    dials = replace(
        profile.train,
        seed=seed,
        steps=steps,
        seq_len=seq_len,
        micro_batch_size=16,
        eval_every=steps,
        checkpoint_every=0,
        optim=replace(profile.train.optim, lr=2.0e-3, warmup_steps=4),
    )
    per_round = ROLLOUT.prompts_per_round // (GRPO.group_size if algorithm == "grpo" else 1)
    rollout = replace(ROLLOUT, prompts_per_round=per_round)
    config = replace(
        profile,
        rollout=rollout,
        reward_train=None,
        train=dials,
        ppo=PPO if algorithm == "ppo" else None,
        grpo=GRPO if algorithm == "grpo" else None,
    )
    body = deepcopy(base.model)
    sampler = Sampler(tokenizer=base.tokenizer, stop_id=end_of_turn(base.tokenizer), config=rollout)
    if algorithm == "ppo":
        policy: Policy = ActorCritic(body, config)
        objective = ppo_objective(PPO, rollout.temperature)
    else:
        policy = Policy(body, config, keeps_reference=True)
        objective = grpo_objective(GRPO, rollout.temperature)
    batches = Rollouts(policy, prompts, sampler, reward, config, padding=base.tokenizer.end_of_text)
    result = train(
        policy,
        batches,
        with_stats(objective),
        dials,
        name=f"{algorithm}-{seed}",
        validate=lambda model: 0.0,
        sink=Silent(),
        device=torch.device("cpu"),
    )
    rounds = result.history[:: config.answers_per_round // dials.samples_per_step]
    return {
        "curve": [{key: round(row[key], 4) for key in ("reward", "kl", "entropy")} for row in rounds],
        "after": watched(policy.body, sampler, held_out, reward),
        "train_s": round(result.elapsed_s, 1),
    }


def summary(runs: list[dict[str, Any]], key: str, part: str) -> dict[str, float]:
    """Mean over seeds and its standard error, of a held-out figure or of the last round's."""
    values = [run["after"][key] if part == "after" else run["curve"][-1][key] for run in runs]
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 4), "error": round(error, 4)}


def render(result: dict[str, Any]) -> str:
    """Return the chapter's table."""
    rows = [
        "| run | its own reward | toy reward | in Hinglish | different words | tokens | KL, nats an answer |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, before in result["before"].items():
        keys = ("reward", "toy_reward", "hinglish", "distinct_words", "answer_tokens")
        rows.append(f"| tuned model, {label} | " + " | ".join(f"{before[k]:.3f}" for k in keys) + " | 0 |")
    for label, figures in result["runs"].items():
        cells = [f"{f['mean']:.3f} ± {f['error']:.3f}" for f in figures["summary"].values()]
        rows.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    """Run and write the result, or print the tables of the one that is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default="finetune", help="what open_model opens; smollm2-135m takes an hour"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print the chapter's tables and do nothing else")
    args = parser.parse_args()
    if args.table:
        print(render(json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))))
        return
    torch.set_num_threads(args.threads)
    base = open_model(args.model)
    chats = [made.record for made in generate_chats(700, seed=99, planted_fraction=0.0)]
    prompts, _ = first_prompts(base.tokenizer, chats[:600], longest=80, name=NAME)
    held_out, _ = first_prompts(base.tokenizer, chats[600:], longest=80, name=NAME)
    held_out = held_out[:HELD_OUT]
    rewards: dict[str, Reward] = {
        "toy reward": toy_reward(ROLLOUT.short_tokens),
        "Hindi words": hindi_words_reward,
    }
    sampler = Sampler(tokenizer=base.tokenizer, stop_id=end_of_turn(base.tokenizer), config=ROLLOUT)
    before = {label: watched(base.model, sampler, held_out, reward) for label, reward in rewards.items()}
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in args.seeds:
        for label, reward in rewards.items():
            for algorithm in ("ppo", "grpo"):
                made = run(base, algorithm, reward, seed, prompts, held_out, args.steps)
                runs.setdefault(f"{algorithm}, {label}", []).append(made)
    shown = ("reward", "toy_reward", "hinglish", "distinct_words", "answer_tokens")
    write_result(
        NAME,
        {
            "model": {"reference": args.model, "sha256": base.sha256, "config": base.info["architecture"]},
            "seeds": args.seeds,
            "steps": args.steps,
            "answers_per_round": ROLLOUT.prompts_per_round,
            "answer_tokens": ROLLOUT.answer_tokens,
            "held_out_prompts": len(held_out),
            "prompts": len(prompts),
            "kl_coef": {"ppo": PPO.kl_coef, "grpo": GRPO.kl_coef},
            "before": before,
            "runs": {
                label: {
                    "summary": {key: summary(made, key, "after") for key in shown}
                    | {"kl": summary(made, "kl", "curve")},
                    "seeds": made,
                }
                for label, made in runs.items()
            },
        },
    )


if __name__ == "__main__":
    main()
