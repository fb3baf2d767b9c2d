"""gpt/align/round.py: rounds made with the weights of their moment, and the same after any resume."""

import dataclasses
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gpt.align.config import AlignConfig
from gpt.align.grpo import grpo_objective
from gpt.align.log_probs import token_logprobs
from gpt.align.policy import Policy
from gpt.align.ppo import ppo_objective
from gpt.align.round import PARTS, Rollouts, with_stats
from gpt.align.toy_reward import Answer
from gpt.model.config import ModelConfig
from gpt.tokenizer.special_tokens import IGNORE
from gpt.tokenizer.tokenizer import Tokenizer
from gpt.train.loop import TrainResult, train
from gpt.train.objective import Batch, Objective
from tests.align.tiny_policy import GRPO, PPO, ROLLOUT, dials, policy, prompts, sampler
from tests.tolerances import TOLERANCE
from tests.train.test_loop import CPU, Killed, Sink


def reward(answers: list[Answer]) -> Tensor:
    """Even ids are worth something: a reward that tiny models learn."""
    return torch.tensor([sum(i % 2 == 0 for i in answer.ids) / 6 for answer in answers])


def make(config: ModelConfig, tokenizer: Tokenizer, align: AlignConfig) -> tuple[Policy, Rollouts, Objective]:
    made = policy(config, align)
    batches = Rollouts(
        made, prompts(tokenizer), sampler(tokenizer, align), reward, align, padding=tokenizer.end_of_text
    )
    assert align.rollout is not None
    temperature = align.rollout.temperature
    if align.ppo is not None:
        return made, batches, with_stats(ppo_objective(align.ppo, temperature))
    assert align.grpo is not None
    return made, batches, with_stats(grpo_objective(align.grpo, temperature))


def run(
    config: ModelConfig,
    tokenizer: Tokenizer,
    align: AlignConfig,
    resume_dir: Path | None = None,
    dies_at: int = -1,
    stops_at: int = -1,
) -> tuple[Policy, TrainResult]:
    """Train; the objective's n-th call dies, or gets a SIGTERM."""
    made, batches, objective = make(config, tokenizer, align)
    calls = iter(range(1000))

    def counted(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        call = next(calls)
        if call == dies_at:
            raise Killed
        if call == stops_at:
            signal.raise_signal(signal.SIGTERM)
        return objective(model, batch)

    result = train(
        made,
        batches,
        counted,
        align.train,
        name="test",
        validate=lambda model: 0.0,
        sink=Sink(),
        device=CPU,
        resume_dir=resume_dir,
    )
    return made, result


def same(a: tuple[Policy, TrainResult], b: tuple[Policy, TrainResult]) -> bool:
    pairs = zip(a[0].state_dict().items(), b[0].state_dict().items(), strict=True)
    return a[1].history == b[1].history and all(n == m and torch.equal(x, y) for (n, x), (m, y) in pairs)


CASES = [("ppo", 0), ("ppo", 4), ("grpo", 0), ("grpo", 4)]


@pytest.mark.parametrize(("algorithm", "rank"), CASES)
def test_resumed_in_a_round_equals_uninterrupted(
    modern: ModelConfig, tokenizer: Tokenizer, tmp_path: Path, algorithm: str, rank: int
) -> None:
    """Guards: answers sampled anew with later weights, a KL coefficient that starts over, an order that
    restarts. 4 steps a round, a checkpoint every 3: killed in step 8, it resumes at step 6, in the middle of
    the second round. A SIGTERM after step 5 and another kill make three attempts of the second run."""
    align = dials(algorithm, lora_rank=rank)
    assert align.rollout is not None
    align = dataclasses.replace(align, rollout=dataclasses.replace(align.rollout, epochs=2))
    whole = run(modern, tokenizer, align)
    assert {row["number"] for row in rounds(whole[1])} == {0, 1}
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        run(modern, tokenizer, align, folder, dies_at=15)
    assert {f.name for f in folder.glob("step-*")} == {"step-3", "step-6"}
    assert same(run(modern, tokenizer, align, folder), whole)
    folder = tmp_path / "stopped"
    with pytest.raises(SystemExit):
        run(modern, tokenizer, align, folder, stops_at=9)
    assert (folder / "step-5").is_dir()
    with pytest.raises(Killed):
        run(modern, tokenizer, align, folder, dies_at=5)
    assert same(run(modern, tokenizer, align, folder), whole)


def rounds(result: TrainResult) -> list[dict[str, float]]:
    """Number the rows' rounds by the rewards that they show."""
    seen: list[Any] = []
    numbered = []
    for row in result.history:
        if row["reward"] not in seen:
            seen.append(row["reward"])
        numbered.append({"number": seen.index(row["reward"])})
    return numbered


@pytest.mark.parametrize(("algorithm", "rank"), CASES)
def test_the_first_step_of_the_first_round(
    modern: ModelConfig, tokenizer: Tokenizer, algorithm: str, rank: int
) -> None:
    """Guards: a policy that starts away from its reference; log-probabilities of sampling and training that
    differ. At step one nothing is clipped and both KLs are 0; later the reference has stayed."""
    align = dials(algorithm, lora_rank=rank)
    made, result = run(modern, tokenizer, align)
    first, last = result.history[0], result.history[-1]
    for name in ("token_kl", "kl_since_rollout", "kl"):
        assert first[name] == pytest.approx(0, abs=TOLERANCE["align_padded_vs_alone"])
    assert first["clip_share"] == 0
    assert first["rollout_gap"] < TOLERANCE["rollout_vs_teacher_forced"]
    assert last["kl"] > 0.001
    token_ids = torch.arange(40, 60)[None]
    with made.reference() as reference, torch.no_grad():
        kept = reference(token_ids)
    fresh = policy(modern, align)
    assert torch.allclose(kept, fresh(token_ids), atol=1e-6)
    assert not torch.allclose(kept, made(token_ids), atol=1e-3)


def test_it_learns_what_is_rewarded(modern: ModelConfig, tokenizer: Tokenizer) -> None:
    """Guards: an advantage or a loss of the wrong sign: rewards that fall."""
    free = {
        "ppo": {"ppo": dataclasses.replace(PPO, kl_coef=0.0, kl_target=0.0)},
        "grpo": {"grpo": dataclasses.replace(GRPO, kl_coef=0.0)},
    }
    for algorithm, changes in free.items():
        align = dials(algorithm, lora_rank=0, **changes)
        assert align.rollout is not None
        train_config = dataclasses.replace(align.train, steps=60, micro_batch_size=4)
        wide = dataclasses.replace(align.rollout, prompts_per_round=32 // align.group_size, batch_size=32)
        align = dataclasses.replace(align, train=train_config, rollout=wide)
        _, result = run(modern, tokenizer, align)
        rewards = [row["reward"] for row in result.history]
        assert rewards[-1] > rewards[0] + 0.2, (algorithm, rewards)


def test_batches_are_made_when_a_step_needs_them(modern: ModelConfig, tokenizer: Tokenizer) -> None:
    """Guards: a round sampled by the read-ahead thread with the weights of two steps before."""
    align = dials("grpo", lora_rank=0)
    made, batches, objective = make(modern, tokenizer, align)
    weights: dict[int, Tensor] = {}
    sample = batches._sample

    def noted(number: int) -> None:
        weights[number] = made.body.embed.weight.detach().clone()
        sample(number)

    batches._sample = noted  # type: ignore[method-assign]
    steps: list[Tensor] = []

    def watched(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        steps.append(made.body.embed.weight.detach().clone())
        return objective(model, batch)

    train(made, batches, watched, align.train, name="t", validate=lambda m: 0.0, sink=Sink(), device=CPU)
    assert sorted(weights) == [0, 1, 2, 3]
    for number, seen in weights.items():
        assert torch.equal(seen, steps[4 * number]), "sampled with other weights than its first step's"
    assert not torch.equal(weights[0], weights[1])


def test_what_a_batch_holds(modern: ModelConfig, tokenizer: Tokenizer) -> None:
    """Guards: a prompt's tokens that are trained on, an end of turn that is not, rows of another sample.

    Narrow and wide batches agree: padding changes nothing."""
    align = dials("ppo")
    _, batches, _ = make(modern, tokenizer, align)
    wide = batches.batch(0, 8)
    token_ids, targets = wide[:2]
    for row, wanted in zip(token_ids.tolist(), targets.tolist(), strict=True):
        places = [t for t, target in enumerate(wanted) if target != IGNORE]
        assert places == list(range(places[0], places[-1] + 1))
        assert len(places) <= ROLLOUT.answer_tokens
        assert row[places[0] + 1 : places[-1] + 1] == wanted[places[0] : places[-1]]
        assert tuple(row[: places[0] + 1]) in {p.ids for p in batches.prompts}
    for i in range(8):
        single = batches.batch(i, 1)
        assert len(single) == len(PARTS)
        for one, all_of_them in zip(single, wide, strict=True):
            assert torch.equal(one[0], all_of_them[i, : one.shape[1]])
        old = dict(zip(PARTS, single, strict=True))["old"]
        again = batches.policy(single[0])
        found = token_logprobs(again, single[1], ROLLOUT.temperature)
        assert torch.allclose(found, old, atol=TOLERANCE["align_padded_vs_alone"])


def test_the_coefficient_adapts_after_its_round(modern: ModelConfig, tokenizer: Tokenizer) -> None:
    """Guards: a coefficient that never moves, or that its own round's KL has already moved. The first KL is
    0, so an error of -1 is clipped to -0.2: after 8 answers of a horizon of 100 it is 0.1 * 0.984."""
    _, batches, _ = make(modern, tokenizer, dials("ppo"))
    batches.batch(0, 4)
    assert batches.round.told()["kl_coef"] == pytest.approx(0.1)
    assert float(batches.round.get_buffer("kl_coef")) == pytest.approx(0.0984)
    fixed = dials("ppo", ppo=dataclasses.replace(PPO, kl_target=0.0))
    _, batches, _ = make(modern, tokenizer, fixed)
    batches.batch(0, 4)
    assert float(batches.round.get_buffer("kl_coef")) == pytest.approx(0.1)


def test_a_round_that_does_not_divide_is_refused() -> None:
    """Guards: samples of two rounds in one step."""
    with pytest.raises(ValueError, match=r"train\.micro_batch_size: 4 answers of a step do not divide the 6"):
        dials("ppo", rollout=dataclasses.replace(ROLLOUT, prompts_per_round=6))
